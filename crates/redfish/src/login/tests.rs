use super::*;

fn id(password: &str) -> CredentialsId {
    CredentialsId::of(&Credentials::new("root", password))
}

fn held(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Held { .. })
}

#[test]
fn a_failed_login_holds_the_next_one_for_ten_minutes() {
    let (mut budget, now) = (LoginBudget::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(budget.ask(now, id("a")), Verdict::Allowed);
    budget.rejected(now, id("a"));
    assert!(held(
        &budget.ask(now + LOGIN_HOLD - SignedDuration::from_secs(1), id("a"))
    ));
    assert_eq!(budget.ask(now + LOGIN_HOLD, id("a")), Verdict::Allowed);
}

#[test]
fn a_changed_secret_is_tried_at_once_but_only_once_in_a_hold() {
    let (mut budget, now) = (LoginBudget::default(), Timestamp::UNIX_EPOCH);
    budget.ask(now, id("a"));
    budget.rejected(now, id("a"));
    assert_eq!(budget.ask(now, id("b")), Verdict::Allowed);
    budget.rejected(now, id("b"));
    for other in ["a", "b", "c"] {
        assert!(held(&budget.ask(now, id(other))), "{other}");
    }
    assert_eq!(budget.ask(now + LOGIN_HOLD, id("c")), Verdict::Allowed);
}

#[test]
fn an_attempt_whose_outcome_nobody_saw_counts_as_failed() {
    let (mut budget, now) = (LoginBudget::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(budget.ask(now, id("a")), Verdict::Allowed);
    assert!(held(&budget.ask(now, id("a"))));
    assert!(held(
        &LoginBudget::held_until(budget.not_before()).ask(now, id("z"))
    ));
}

#[test]
fn a_bmc_that_did_not_judge_costs_nothing() {
    let (mut budget, now) = (LoginBudget::default(), Timestamp::UNIX_EPOCH);
    budget.ask(now, id("a"));
    budget.inconclusive();
    assert_eq!(budget.ask(now, id("a")), Verdict::Allowed);
}

#[test]
fn an_inconclusive_try_of_a_new_secret_does_not_forgive_the_old_ones_failure() {
    let (mut budget, now) = (LoginBudget::default(), Timestamp::UNIX_EPOCH);
    budget.ask(now, id("a"));
    budget.rejected(now, id("a"));
    assert_eq!(budget.ask(now, id("b")), Verdict::Allowed);
    budget.inconclusive();
    assert!(held(&budget.ask(now, id("a"))));
    assert_eq!(budget.ask(now, id("b")), Verdict::Allowed);
}
