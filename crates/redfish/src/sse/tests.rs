use super::*;
use proptest::prelude::*;

fn events(text: &[u8]) -> Vec<SseEvent> {
    let mut parser = SseParser::default();
    parser.push(text);
    std::iter::from_fn(|| parser.next_event()).collect()
}

#[test]
fn events_are_told_apart_in_all_line_endings() {
    for end in ["\n", "\r\n", "\r"] {
        let text = [
            "\u{feff}: hello",
            "id: 7",
            "data: {\"a\":",
            "data: 1}",
            "",
            "data:x",
            "event: y",
            "",
            "data: unfinished",
        ]
        .join(end);
        let got = events(text.as_bytes());
        assert_eq!(
            got,
            [
                SseEvent {
                    id: Some("7".to_owned()),
                    event: None,
                    data: "{\"a\":\n1}".to_owned()
                },
                SseEvent {
                    id: None,
                    event: Some("y".to_owned()),
                    data: "x".to_owned()
                },
            ],
            "{end:?}"
        );
    }
}

#[test]
fn the_last_id_is_that_of_the_last_whole_event() {
    let mut parser = SseParser::after(Some("1".to_owned()));
    parser.push(b"id: 2\ndata: x\n\nid: 3\ndata: y\n");
    assert_eq!(parser.last_event_id(), Some("2"));
    parser.push(b"\n");
    assert_eq!(parser.last_event_id(), Some("3"));
}

#[test]
fn a_flood_is_dropped_and_the_next_event_is_read() {
    let mut parser = SseParser::default();
    parser.push(b"data: ");
    for _ in 0..40 {
        parser.push(&[b'x'; 64 << 10]);
        assert!(parser.line.capacity() <= 2 * LARGEST);
    }
    parser.push(b"\ndata: tail\n\ndata: next\n\n");
    assert_eq!(parser.next_event().unwrap().data, "next");
    assert_eq!(parser.next_event(), None);
}

proptest! {
    #[test]
    fn where_the_bytes_are_cut_makes_no_difference(text in "([a-z:\r\n ]|data: |id: |é){0,60}", cut in 0_usize..200) {
        let bytes = text.as_bytes();
        let cut = cut.min(bytes.len());
        let mut parser = SseParser::default();
        parser.push(&bytes[..cut]);
        parser.push(&bytes[cut..]);
        let split: Vec<_> = std::iter::from_fn(|| parser.next_event()).collect();
        prop_assert_eq!(split, events(bytes));
    }

    #[test]
    fn no_bytes_can_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = events(&bytes);
    }
}
