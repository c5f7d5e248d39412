//! The API server goes away under load, and `corten serve` is killed: on control planes of their own, because these break what they run on.

mod crash {
    mod killed;
    mod outage;
}
