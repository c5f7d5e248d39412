//! Each rule by a sentence, on a bench in memory; then all of them together, by exhaustion ([`promises`]).

mod bench;
mod claimed;
mod cleaning;
mod inband;
mod onboarding;
mod people;
mod probed;
mod promises;
