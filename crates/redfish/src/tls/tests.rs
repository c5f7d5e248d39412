use super::*;

#[test]
fn a_fingerprint_reads_what_it_writes_and_openssls_form() {
    let fingerprint = Fingerprint::of(b"certificate");
    assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    let hex = fingerprint
        .to_string()
        .replace("sha256:", "")
        .to_uppercase();
    let pairs: Vec<&str> = (0..32).map(|i| &hex[i * 2..i * 2 + 2]).collect();
    assert_eq!(pairs.join(":").parse(), Ok(fingerprint));
    assert_eq!(
        format!("SHA256:{}", pairs.join(":")).parse(),
        Ok(fingerprint)
    );
}

#[test]
fn what_is_no_fingerprint_is_refused() {
    for text in [
        "",
        "sha256:",
        "sha256:00",
        "sha1:00",
        &"0".repeat(63),
        &"0".repeat(65),
        &"x".repeat(64),
        "é",
    ] {
        assert_eq!(text.parse::<Fingerprint>(), Err(BadFingerprint), "{text}");
    }
}

#[test]
fn a_ca_file_without_a_certificate_says_so() {
    assert_eq!(CaBundle::from_pem(b"").unwrap_err(), BadCaBundle::Empty);
    assert_eq!(
        CaBundle::from_pem(b"hello").unwrap_err(),
        BadCaBundle::Empty
    );
}

#[test]
fn only_the_one_certificate_that_was_ever_shown_is_adopted_and_then_no_other_is_accepted() {
    let (one, other) = (Fingerprint::of(b"one"), Fingerprint::of(b"other"));
    let observed = Observed::default();
    assert!(!observed.adopt(one), "nothing was shown");
    assert!(observed.note(one));
    assert!(!observed.adopt(other), "another was shown");
    assert!(observed.adopt(one));
    assert!(observed.note(one) && !observed.note(other));
    assert_eq!(observed.get(), Some(one));

    let observed = Observed::default();
    assert!(observed.note(one) && observed.note(other) && observed.note(one));
    assert!(
        !observed.adopt(one),
        "there may be a connection to the other"
    );
}
