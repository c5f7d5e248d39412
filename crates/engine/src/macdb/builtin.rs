//! The built-in MAC prefixes: blocks that the IEEE has registered to the usual makers of servers, or that recordings of
//! their BMCs show, with the credentials they are known to ship with.
//!
//! A maker's block is also on its network cards, so a match is a reason to ask the device, never a proof that it is a
//! BMC. Cisco and Huawei are absent on purpose: their thousands of blocks are switches and phones; give a file for
//! those. Sources: the IEEE MA-L register; the makers' manuals for credentials.

/// One maker's blocks.
pub(super) struct Maker {
    pub(super) manufacturer: &'static str,
    /// Factory credentials, the likeliest first; none where each machine has its own.
    pub(super) credentials: &'static [(&'static str, &'static str)],
    pub(super) console: Option<&'static str>,
    /// Six hexadecimal digits each, parted by white space.
    pub(super) prefixes: &'static str,
}

pub(super) const MAKERS: &[Maker] = &[
    // Ordered with the legacy password; otherwise each machine carries one of its own on a tag.
    Maker {
        manufacturer: "Dell Inc.",
        credentials: &[("root", "calvin")],
        console: Some("SSH"),
        prefixes: "00065b 000874 000bdb 000d56 000f1f 001143 00123f 001372 001422 0015c5 00188b 0019b9 001aa0 \
            001c23 001d09 001e4f 001ec9 002170 00219b 002219 0023ae 0024e8 002564 0026b9 004e01 00b0d0 \
            00be43 00c04f 04bf1b 089204 0c29ef 106530 107d1a 109836 141877 149ecf 14b31f 14feb5 180373 \
            185a58 1866da 18a99b 18dbf2 18fb7b 1c4024 1c721d 20040f 204747 208810 246e96 247152 24b6fd \
            2800af 28f10e 2cea7f 30d042 3417eb 3448ed 34735a 34e6d7 381428 3c25f8 3c2c30 405cfd 44a842 \
            484d7e 4c7625 4cd717 4cd98f 509a4c 544810 549f35 54bf64 588a5a 5c260a 5cf9dd 601895 605b30 \
            64006a 684f64 6c2b59 6c3c8c 70b5e8 747827 74867a 7486e2 74e6e2 782bcb 7845c4 78ac44 801844 \
            842b2b 847beb 848f69 886fd4 8c04ba 8c47be 8cec4b 908d6e 90b11c 9840bb 989096 98e743 a02919 \
            a41f72 a44cc8 a4badb a4bb6d a83ca5 a89969 ac1a3d ac91a1 b04f13 b07b25 b083fe b44506 b4e10f \
            b82a72 b88584 b8ac6f b8ca3a b8cb29 bc305b c025a5 c03eba c45ab1 c4cbe1 c81f66 c84bd6 c8f750 \
            cc483a cc96e5 ccc5e5 d0431e d0460c d067e5 d08e79 d09466 d481d7 d4ae52 d4bed9 d89ef3 d8d090 \
            dcf401 e0d848 e0db55 e4434b e454e8 e4b97a e4f004 e8655f e8b265 e8b5d0 ec2a72 ecf4bb f01faf \
            f04da2 f0d4e2 f40270 f48e38 f4ee08 f8b156 f8bc12 f8cab8 f8db88",
    },
    // Each iLO's password stands on its own tag: there is no default.
    Maker {
        manufacturer: "HPE",
        credentials: &[],
        console: Some("SSH"),
        prefixes: "001438 004e35 00fd45 040973 089734 08f1ea 1402ec 1c98ec 20677c 20a6cd 24f27f 303fbb 34fcb9 \
            3817c3 40b93c 4448c1 484ae9 489ecb 48df37 4caea3 54778a 548028 5cba2c 5ced8c 70106f 7ca62a \
            8030e0 808db7 88e9a4 904c81 941882 943fc2 9440c9 94f128 98f2b3 9c8cd8 9cdc71 a8bd27 b0b867 \
            b47af1 b86ce0 b88303 c8b5ad d06726 d4f5ef d89403 dc680c e0071b e8f724 ec9b8b ecebb8 f40343",
    },
    // The block of the maker whose boards carry XCC (recorded); Lenovo's own blocks are phones and laptops.
    Maker {
        manufacturer: "Lenovo",
        credentials: &[("USERID", "PASSW0RD")],
        console: Some("SSHLenovo"),
        prefixes: "088fc3",
    },
    // Machines made before 2020; later ones carry a password of their own on a label.
    Maker {
        manufacturer: "Supermicro",
        credentials: &[("ADMIN", "ADMIN")],
        console: Some("SSH"),
        prefixes: "002590 003048 0cc47a 3cecef 7cc255 905a08 ac1f6b",
    },
    Maker {
        manufacturer: "ASRock Rack",
        credentials: &[("admin", "admin")],
        console: None,
        prefixes: "d05099 a8a159 9c6b00 7085c2 bc5ff4",
    },
    Maker {
        manufacturer: "GIGABYTE",
        credentials: &[("admin", "password")],
        console: None,
        prefixes: "000fea 0016e6 001a4d 001d7d 001fd0 0020ed 00241d 10ffe0 18c04d 1c1b0d 1c6f65 408d5c 50e549 \
            6cf049 74563c 74d435 902b34 94de80 b42e99 d85ed3 e0d55e fcaa14",
    },
    Maker {
        manufacturer: "Quanta",
        credentials: &[("admin", "cmb9.admin")],
        console: None,
        prefixes: "001636 001b24 001e68 00238b 00269e 00c09f 047d7b 089e01 2c600c 54ab3a 60eb69 74d4dd a81e84 \
            b4a9fc c01850 c45444 c80aa9 d8c497 e89a8f",
    },
    // The blocks of Intel's server boards; their root account is disabled as shipped.
    Maker {
        manufacturer: "Intel Corporation",
        credentials: &[],
        console: None,
        prefixes: "001e67 a4bf01",
    },
    // Older iRMCs; later ones carry a password of their own.
    Maker {
        manufacturer: "FUJITSU",
        credentials: &[("admin", "admin")],
        console: None,
        prefixes: "001999 003005 4c5262 901b0e",
    },
    Maker {
        manufacturer: "Inspur",
        credentials: &[("admin", "admin")],
        console: None,
        prefixes: "6c92bf 9cc2c4 b4055d",
    },
    Maker {
        manufacturer: "xFusion",
        credentials: &[("Administrator", "Admin@9000")],
        console: None,
        prefixes: "347379 441a4c",
    },
    // BlueField and HGX as shipped; a DGX (5c:ff:35, recorded) gets its account at first boot.
    Maker {
        manufacturer: "NVIDIA",
        credentials: &[("root", "0penBmc")],
        console: None,
        prefixes: "0002c9 00258b 043f72 08c0eb 0c42a1 1070fd 1c34da 248a07 3c6d66 48b02d 506b4b 58a2e1 5c2573 \
            5cff35 7cfe90 900a84 946dae 98039b 9c0591 9c63c0 a088c2 b0cf0e b83fd2 b8599f b8cef6 e41d2d \
            e8ebd3 ec0d9a f45214 fc6a1c",
    },
    Maker {
        manufacturer: "Wiwynn",
        credentials: &[("root", "0penBmc")],
        console: None,
        prefixes: "5cfe9e",
    },
    Maker {
        manufacturer: "ZT Systems",
        credentials: &[],
        console: None,
        prefixes: "002695",
    },
    Maker {
        manufacturer: "Tyan",
        credentials: &[("root", "superuser")],
        console: None,
        prefixes: "00e081 a0423f",
    },
];
