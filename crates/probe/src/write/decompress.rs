//! gzip, zstd and xz, told by their first bytes. All in Rust: what comes is outside input, and the reader is PID 1.

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, Read};

/// The compression's name: as it was said, else by the first bytes.
///
/// # Errors
/// Where a name was said that is not known, or that the bytes contradict.
pub fn name(said: &str, first: &[u8]) -> Result<&'static str, String> {
    let seen = match first {
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        _ => "none",
    };
    match said {
        "" => Ok(seen),
        // An image that happens to begin so is taken at its word.
        "none" => Ok("none"),
        "gzip" | "zstd" | "xz" if said == seen => Ok(seen),
        "gzip" | "zstd" | "xz" => Err(format!("the image is not compressed by {said}")),
        other => Err(format!("the compression {other} is not known")),
    }
}

/// A reader of what is inside.
///
/// # Errors
/// Where the first bytes make no sense.
pub fn decoder<'a>(name: &str, source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let source = BufReader::with_capacity(256 << 10, source);
    Ok(match name {
        "gzip" => Box::new(MultiGzDecoder::new(source)),
        "zstd" => Box::new(Frames {
            source,
            decoder: FrameDecoder::new(),
        }),
        "xz" => Box::new(Streams(Some(XzReader::new(Whole(source), false)))),
        _ => Box::new(source),
    })
}

/// A zstd file may be several frames one after the other (as pzstd and `cat` make them), and some to be skipped between them (RFC 8878, 3.1.2; pzstd's too).
struct Frames<R: BufRead> {
    source: R,
    decoder: FrameDecoder,
}

impl<R: BufRead> Frames<R> {
    /// Whether there is another frame; it is begun then.
    fn next(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut frame = (&mut self.source).take(length.into());
                    if io::copy(&mut frame, &mut io::sink())? != u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(invalid(error.to_string())),
            }
        }
    }

    /// The checksum of a frame that has been read whole, where it has one.
    fn check(&self) -> io::Result<()> {
        match (
            self.decoder.get_checksum_from_data(),
            self.decoder.get_calculated_checksum(),
        ) {
            (Some(said), Some(seen)) if said != seen => {
                Err(invalid("a zstd frame's checksum is wrong"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| invalid(error.to_string()))?;
            }
            let length = self.decoder.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            self.check()?;
            if !self.next()? {
                return Ok(0);
            }
        }
    }
}

/// An xz file may be several streams one after the other, with zeros between them (xz file format, 2.2). The crate takes several too, but each in a call of
/// its own inside the last: as many empty ones as somebody likes would break the stack.
struct Streams<R: BufRead>(Option<XzReader<Whole<R>>>);

impl<R: BufRead> Read for Streams<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The crate takes an empty buffer for the end of a block.
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(stream) = &mut self.0 else {
                return Ok(0);
            };
            let length = stream.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            if let Some(mut source) = self.0.take().map(XzReader::into_inner)
                && pass_zeros(&mut source.0)?
            {
                self.0 = Some(XzReader::new(source, false));
            }
        }
    }
}

/// Passes over the zeros behind a stream; whether something else comes then.
fn pass_zeros(source: &mut impl BufRead) -> io::Result<bool> {
    let mut zeros = 0;
    let more = loop {
        let seen = source.fill_buf()?;
        let run = seen.iter().take_while(|byte| **byte == 0).count();
        let (is_end, is_other) = (seen.is_empty(), run < seen.len());
        source.consume(run);
        zeros = (zeros + run) % 4;
        if is_end || is_other {
            break is_other;
        }
    };
    if zeros == 0 {
        Ok(more)
    } else {
        Err(invalid("the zeros behind an xz stream are not in fours"))
    }
}

/// Fills each buffer: the crate takes a short read for the file's end where a block is padded.
struct Whole<R>(R);

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        super::fill(&mut self.0, buffer)
    }
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// A source that gives so many bytes at once, as a network may.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }

    fn unpack(name: &str, bytes: &[u8], at_once: usize) -> io::Result<Vec<u8>> {
        let mut image = Vec::new();
        decoder(name, Trickle(bytes, at_once))?.read_to_end(&mut image)?;
        Ok(image)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    fn first() -> Vec<u8> {
        b"what comes first, ".repeat(8)
    }

    fn second() -> Vec<u8> {
        b"and the second, ".repeat(8)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// `first` by `zstd --no-check`.
    const ZSTD_PLAIN: &str = "28b52ffd2090cd0000907768617420636f6d65732066697273742c20010076a5330c";
    /// `second` by `zstd --check`.
    const ZSTD_CHECKED: &str =
        "28b52ffd2480bd000080616e6420746865207365636f6e642c200100daa47309384dcffd";
    /// `first` by `pzstd`, which puts a frame to be skipped before each.
    const PZSTD: &str = "502a4d18040000002600000028b52ffd0458cd0000907768617420636f6d65732066697273742c20010076a5330cadfeebd0";
    /// `first` by `xz --check=crc64`.
    const XZ_CRC64: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3e0008f00195d003b9a084869ea1defbcd277119b5877949a76b7
        8510b8c2800000000000463d44fb82797a6d0001359001000000b60258feb1c467fb020000000004595a";
    /// `second` by `xz --check=sha256`.
    const XZ_SHA256: &str = "fd377a585a00000ae1fb0ca10200210116000000742fe5a3e0007f00175d
        00309b88ab66f2a188ac0e7552950a27a11ffd91f8fb8000000010acd3f1 a3fd1ca362e0d22bd5b1fb20262e00f16dfbf38a5b714d87e2f02eeb0001
        4b800100000085f990afb6e9df1c02000000000a595a";

    /// Name, parts that stand one after the other, and how many bytes before the end of the last its checksum begins.
    fn table() -> Vec<(&'static str, Vec<Vec<u8>>, usize)> {
        let (skipped, frame) = (bytes(&PZSTD[..24]), bytes(&PZSTD[24..]));
        vec![
            ("gzip", vec![gzip(&first()), gzip(&second())], 8),
            ("zstd", vec![bytes(ZSTD_PLAIN), bytes(ZSTD_CHECKED)], 4),
            ("zstd", vec![skipped, frame, bytes(ZSTD_CHECKED)], 4),
            // Behind the check: index (12 bytes here) and footer (12).
            ("xz", vec![bytes(XZ_CRC64), bytes(XZ_SHA256)], 32 + 24),
        ]
    }

    #[test]
    fn an_image_of_two_parts_comes_out_whole_however_it_arrives_and_never_cut_or_changed() {
        for (name, parts, check) in table() {
            let image = [first(), second()].concat();
            let packed = parts.concat();
            let ends: Vec<usize> = (1..parts.len())
                .map(|count| parts[..count].concat().len())
                .collect();
            let last = *ends.last().unwrap();
            assert_eq!(super::name("", &packed[..8]), Ok(name));
            assert_eq!(super::name(name, &packed[..8]), Ok(name));
            for at_once in [1, 2, 3, 7, usize::MAX] {
                let read = unpack(name, &packed, at_once);
                assert_eq!(read.unwrap(), image, "{name} by {at_once} bytes");
            }
            // Where a part ends, nothing shows that another was to come.
            for cut in (1..packed.len()).filter(|cut| !ends.contains(cut)) {
                let read = unpack(name, &packed[..cut], usize::MAX);
                assert!(read.is_err(), "{name} cut at {cut}: {read:?}");
            }
            for at in last..packed.len() {
                let mut changed = packed.clone();
                changed[at] ^= 1;
                // A gzip header has bytes without meaning for the content.
                let read = unpack(name, &changed, usize::MAX).unwrap_or_else(|_| image.clone());
                assert_eq!(read, image, "{name} changed at {at}");
            }
            let payload = last + (packed.len() - check - last) / 2;
            for at in [payload, packed.len() - check] {
                let mut changed = packed.clone();
                changed[at] ^= 1;
                let read = unpack(name, &changed, usize::MAX);
                assert!(read.is_err(), "{name} changed at {at}: {read:?}");
            }
        }
    }

    #[test]
    fn an_image_that_is_not_packed_comes_as_it_is() {
        assert_eq!(super::name("", &first()), Ok("none"));
        assert_eq!(unpack("none", &first(), 1).unwrap(), first());
        assert_eq!(unpack("none", b"", 1).unwrap(), b"");
        // Taken at its word, and not at a wrong one.
        assert_eq!(super::name("none", &bytes(ZSTD_PLAIN)), Ok("none"));
        assert!(super::name("xz", &bytes(ZSTD_PLAIN)).is_err());
        assert!(super::name("lz4", &first()).is_err());
    }

    #[test]
    fn padding_between_xz_streams_and_frames_to_be_skipped_are_passed_over() {
        let image = [first(), second()].concat();
        let streams = [&bytes(XZ_CRC64)[..], &[0; 8], &bytes(XZ_SHA256), &[0; 4]].concat();
        assert_eq!(unpack("xz", &streams, 1).unwrap(), image);
        let odd = [&bytes(XZ_CRC64)[..], &[0; 3], &bytes(XZ_SHA256)].concat();
        assert!(unpack("xz", &odd, usize::MAX).is_err());
        let rubbish = [&bytes(XZ_CRC64)[..], b"rubbish"].concat();
        assert!(unpack("xz", &rubbish, usize::MAX).is_err());
        let skipped = bytes("5f2a4d1803000000aabbcc");
        let frames = [
            &bytes(ZSTD_PLAIN)[..],
            &skipped,
            &bytes(ZSTD_CHECKED),
            &skipped,
        ]
        .concat();
        assert_eq!(unpack("zstd", &frames, 1).unwrap(), image);
        let cut = &frames[..frames.len() - 1];
        assert!(unpack("zstd", cut, usize::MAX).is_err());
    }

    #[test]
    fn many_empty_streams_do_not_break_the_stack() {
        // `xz` of nothing.
        let empty = bytes("fd377a585a000004e6d6b446000000001cdf4421 1fb6f37d010000000004595a");
        let gzip = gzip(b"");
        let zstd = bytes("28b52ffd2400010000 99e9d851");
        for (name, empty) in [("xz", empty), ("gzip", gzip), ("zstd", zstd)] {
            let read = unpack(name, &empty.repeat(20_000), usize::MAX);
            assert_eq!(read.unwrap(), b"", "{name}");
        }
    }
}
