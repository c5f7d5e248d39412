use proptest::prelude::*;

use super::*;

fn ticket() -> Ticket {
    Ticket {
        server: "rack1-system-0".into(),
        server_uid: "1f0c1a5e-24a4-4a8e-a2b5-c9a0c1e0a1b2".into(),
        nonce: "a-run".into(),
    }
}

fn keys(seeds: &[u8]) -> Keys {
    Keys::new(seeds.iter().map(|seed| [*seed; 32])).unwrap()
}

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}

#[test]
fn a_token_gives_its_ticket_back_to_any_replica_with_the_key() {
    let token = keys(&[1]).sign(&ticket(), Purpose::Boot, None).unwrap();
    assert_eq!(
        keys(&[1]).check(token.expose(), Purpose::Boot, at(5)),
        Ok(Shown {
            ticket: ticket(),
            end: None
        })
    );
}

#[test]
fn the_same_ticket_makes_the_same_token_so_that_a_bmc_is_not_patched_again() {
    let first = keys(&[1])
        .sign(&ticket(), Purpose::Boot, Some(at(50)))
        .unwrap();
    assert_eq!(
        first,
        keys(&[1])
            .sign(&ticket(), Purpose::Boot, Some(at(50)))
            .unwrap()
    );
}

#[test]
fn a_token_of_another_key_is_foreign() {
    let token = keys(&[1]).sign(&ticket(), Purpose::Boot, None).unwrap();
    assert_eq!(
        keys(&[2]).check(token.expose(), Purpose::Boot, at(5)),
        Err(Rejection::Foreign)
    );
}

#[test]
fn after_a_rotation_the_old_key_is_accepted_and_the_new_one_signs() {
    let old = keys(&[1]).sign(&ticket(), Purpose::Boot, None).unwrap();
    let rotated = keys(&[2, 1]);
    assert_eq!(
        rotated.check(old.expose(), Purpose::Boot, at(5)),
        Ok(Shown {
            ticket: ticket(),
            end: None
        })
    );
    let new = rotated.sign(&ticket(), Purpose::Boot, None).unwrap();
    assert_eq!(
        keys(&[1]).check(new.expose(), Purpose::Boot, at(5)),
        Err(Rejection::Foreign)
    );
}

#[test]
fn a_token_from_a_boot_url_does_not_open_user_data() {
    let token = keys(&[1]).sign(&ticket(), Purpose::Boot, None).unwrap();
    for other in [Purpose::UserData, Purpose::Probe, Purpose::Operator] {
        assert_eq!(
            keys(&[1]).check(token.expose(), other, at(5)),
            Err(Rejection::OtherPurpose)
        );
    }
}

#[test]
fn a_token_ends_at_its_end() {
    let token = keys(&[1])
        .sign(&ticket(), Purpose::Boot, Some(at(100)))
        .unwrap();
    assert!(
        keys(&[1])
            .check(token.expose(), Purpose::Boot, at(99))
            .is_ok()
    );
    assert_eq!(
        keys(&[1]).check(token.expose(), Purpose::Boot, at(100)),
        Err(Rejection::Expired)
    );
}

#[test]
fn fields_do_not_run_into_each_other() {
    let one = Ticket {
        server: "ab".into(),
        server_uid: "c".into(),
        nonce: String::new(),
    };
    let other = Ticket {
        server: "a".into(),
        server_uid: "bc".into(),
        nonce: String::new(),
    };
    let keys = keys(&[1]);
    assert_ne!(
        keys.sign(&one, Purpose::Boot, None).unwrap(),
        keys.sign(&other, Purpose::Boot, None).unwrap()
    );
}

#[test]
fn the_longest_names_of_kubernetes_fit() {
    let long = Ticket {
        server: "s".repeat(253),
        server_uid: ticket().server_uid,
        nonce: ticket().server_uid,
    };
    let token = keys(&[1]).sign(&long, Purpose::Probe, None).unwrap();
    assert!(token.expose().len() <= MAX_LENGTH);
    assert_eq!(
        keys(&[1]).check(token.expose(), Purpose::Probe, at(0)),
        Ok(Shown {
            ticket: long,
            end: None
        })
    );
    let longer = Ticket {
        server: "s".repeat(255),
        ..ticket()
    };
    assert_eq!(
        keys(&[1]).sign(&longer, Purpose::Probe, None),
        Err(TokenError::LongField("server's name"))
    );
}

#[test]
fn keys_that_are_none_are_refused() {
    assert_eq!(
        Keys::new(Vec::<Vec<u8>>::new()).unwrap_err(),
        TokenError::NoKey
    );
    assert_eq!(
        Keys::new([vec![1u8; 31]]).unwrap_err(),
        TokenError::ShortKey(31)
    );
}

#[test]
fn neither_keys_nor_tokens_show_themselves() {
    let keys = Keys::new([b"0123456789abcdef0123456789abcdef"]).unwrap();
    let token = keys.sign(&ticket(), Purpose::Boot, None).unwrap();
    assert!(!format!("{keys:?}").contains("0123"));
    assert!(!format!("{token:?}").contains(token.expose()));
}

proptest! {
    #[test]
    fn what_comes_from_outside_never_panics_and_is_never_accepted(token in ".{0,700}") {
        prop_assert_eq!(keys(&[1]).check(&token, Purpose::Boot, at(0)), Err(Rejection::Foreign));
    }

    #[test]
    fn signed_rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // Not from outside: what another version with the same key might have signed.
        let keys = keys(&[1]);
        let mac = mac(&keys.first, &bytes);
        let token = URL_SAFE_NO_PAD.encode([&bytes[..], mac.as_ref()].concat());
        let _ = keys.check(&token, Purpose::Boot, at(0));
    }

    #[test]
    fn a_token_with_one_bit_turned_is_foreign(bit in 0usize..600) {
        let keys = keys(&[1]);
        let token = keys.sign(&ticket(), Purpose::Boot, None).unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(token.expose()).unwrap();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(keys.check(&URL_SAFE_NO_PAD.encode(bytes), Purpose::Boot, at(0)), Err(Rejection::Foreign));
    }

    #[test]
    fn any_ticket_comes_back_as_it_was(server in ".{0,60}", server_uid in "[0-9a-fA-F-]{0,40}", nonce in ".{0,60}") {
        let ticket = Ticket { server, server_uid, nonce };
        let keys = keys(&[1]);
        let token = keys.sign(&ticket, Purpose::Probe, None).unwrap();
        prop_assert_eq!(keys.check(token.expose(), Purpose::Probe, at(0)), Ok(Shown { ticket, end: None }));
    }
}
