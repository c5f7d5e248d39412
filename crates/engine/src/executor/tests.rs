//! Each step fails in turn, each is repeated, and the future is dropped after its n-th input or output for every n.

use std::{cell::Cell, sync::Arc};

use corten_api::{
    corten::{
        Intent, Observation, PlannedStep, RunKind, RunPhase, ServerReference, ServerRun,
        ServerRunSpec, ServerRunStatus, StepOutcome,
    },
    metal::PowerState,
};
use corten_kit::{Error, ObjectKey, gate};
use corten_lifecycle::{
    identity::Identity,
    run::{self, Before, Outcome, Phase, Run, Step},
    server::{Abilities, Machine, Media},
};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::{Erasure, Executor, ExecutorError, Hardware, Records, Right, SendError, Sent};

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(1_000_000) };
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW.get()).unwrap()
}

fn pass(seconds: i64) {
    NOW.set(NOW.get() + seconds);
}

/// The API server, for one run.
#[derive(Clone)]
struct Store(Arc<Mutex<ServerRun>>);

impl Store {
    fn new(steps: &[Step]) -> Self {
        let plan = steps
            .iter()
            .map(|step| PlannedStep {
                step: step.to_string(),
                reason: "test".into(),
            })
            .collect();
        let mut run = ServerRun::new(
            "run",
            ServerRunSpec {
                server_ref: ServerReference {
                    name: "s".into(),
                    uid: "u".into(),
                },
                kind: RunKind::Operation,
                occasion: "test".into(),
                claim_uid: None,
                actor: None,
                plan,
                system_uuid: None,
                serial_number: None,
            },
        );
        run.metadata.resource_version = Some("1".into());
        Self(Arc::new(Mutex::new(run)))
    }

    fn get(&self) -> ServerRun {
        self.0.lock().clone()
    }

    fn status(&self) -> ServerRunStatus {
        self.get().status.unwrap_or_default()
    }
}

impl Records for Store {
    async fn create(&self, run: &ServerRun) -> Result<Arc<ServerRun>, Error> {
        Ok(Arc::new(run.clone()))
    }

    async fn replace_status(&self, run: &ServerRun) -> Result<Arc<ServerRun>, Error> {
        gate::pass().await;
        let written = {
            let mut stored = self.0.lock();
            if stored.metadata.resource_version != run.metadata.resource_version {
                return Err(Error::Conflict {
                    kind: "ServerRun".into(),
                    key: ObjectKey::cluster("run"),
                });
            }
            let version: u64 = stored
                .metadata
                .resource_version
                .as_ref()
                .unwrap()
                .parse()
                .unwrap();
            stored.status.clone_from(&run.status);
            stored.metadata.resource_version = Some((version + 1).to_string());
            Arc::new(stored.clone())
        };
        gate::pass().await;
        Ok(written)
    }
}

/// A lease that ends at a time.
#[derive(Clone, Copy)]
struct Until(i64);

impl Right for Until {
    fn outlives(&self, deadline: Timestamp) -> bool {
        deadline.as_second() < self.0
    }

    fn holder(&self) -> String {
        "me".into()
    }
}

const FOREVER: Until = Until(i64::MAX);

/// The machine, and what it does wrong.
struct Iron {
    store: Store,
    state: Mutex<State>,
}

struct State {
    power: PowerState,
    resets: u32,
    boot_override: bool,
    sent: Vec<Step>,
    /// The n-th call goes wrong in this way.
    wrong: Option<(usize, SendError, bool)>,
    calls: usize,
    /// Seconds that the reading before a call takes.
    reading: i64,
    /// Shows `LastResetTime` as it was at the start, whatever happens, as many BMCs do.
    forgets_resets: bool,
}

impl Iron {
    fn new(store: &Store, power: PowerState) -> Self {
        let state = State {
            resets: 0,
            boot_override: power == PowerState::On,
            power,
            sent: Vec::new(),
            wrong: None,
            calls: 0,
            reading: 0,
            forgets_resets: false,
        };
        Self {
            store: store.clone(),
            state: Mutex::new(state),
        }
    }

    fn look(&self) -> Machine {
        let state = self.state.lock();
        Machine {
            read_at: now(),
            power: state.power.clone(),
            identity: Identity::default(),
            last_reset: Some(
                if state.forgets_resets {
                    0
                } else {
                    state.resets
                }
                .to_string(),
            ),
            boot_override: Some(state.boot_override),
            boot_lasts: false,
            led: None,
            boot_order: Vec::new(),
            media: Media::Unread,
            can: Abilities::default(),
        }
    }

    fn happen(&self, step: &Step) {
        let status = self.store.status();
        let intent = status.intent.expect("sent without a written intent");
        assert_eq!(intent.step, step.to_string());
        assert!(now() < intent.deadline, "sent after its deadline");
        let mut state = self.state.lock();
        state.sent.push(step.clone());
        match step {
            Step::ForceOff | Step::RequestShutdown => state.power = PowerState::Off,
            Step::PowerOn => state.power = PowerState::On,
            Step::ForceRestart => state.resets += 1,
            Step::BootNetworkOnce => state.boot_override = true,
            Step::ClearBootOverride => state.boot_override = false,
            _ => {}
        }
    }
}

impl Hardware for Iron {
    type Prepared = ();

    async fn prepare(&self, _step: &Step) -> Result<(), SendError> {
        let slow = self.state.lock().reading;
        pass(slow);
        Ok(())
    }

    async fn send(&self, step: &Step, (): ()) -> Result<Sent, SendError> {
        gate::pass().await;
        let wrong = {
            let mut state = self.state.lock();
            let call = state.calls;
            state.calls += 1;
            state.wrong.clone().filter(|(n, ..)| *n == call)
        };
        if let Some((_, error, happens)) = wrong {
            if happens {
                self.happen(step);
            }
            return Err(error);
        }
        self.happen(step);
        gate::pass().await;
        Ok(Sent::Done {
            evidence: "204".into(),
        })
    }

    async fn erasure(&self, _: &str, _: &str) -> Result<Erasure, SendError> {
        Ok(Erasure::Done {
            evidence: "done".into(),
        })
    }
}

/// What a controller does with a run: settle what is open, else the next step, else finish. Every state is read from the record.
async fn work(executor: &Executor<Store, Until>, iron: &Iron) -> Result<(), ExecutorError> {
    for _ in 0..50 {
        let object = iron.store.get();
        let run = Run::of(&object).expect("a readable run");
        if !run.is_open() {
            return Ok(());
        }
        if let Some(intent) = &run.intent {
            if now() < intent.deadline {
                pass(intent.deadline.duration_since(now()).as_secs() + 1);
            }
            executor
                .settle(&object, &run::settle(intent, &iron.look()))
                .await?;
            continue;
        }
        if run.is_lost() {
            executor
                .finish(&object, Phase::OutcomeUnknown, "nobody knows")
                .await?;
            return Ok(());
        }
        let due = run.plan.iter().find(|step| {
            run.last(step)
                .is_none_or(|done| done.outcome != Outcome::Succeeded)
                && run.tries(step) < 3
        });
        let Some(step) = due else {
            let phase = if run.is_complete() {
                Phase::Succeeded
            } else {
                Phase::Failed
            };
            executor.finish(&object, phase, "done").await?;
            return Ok(());
        };
        let machine = iron.look();
        let before = Before {
            power: Some(machine.power),
            last_reset: machine.last_reset,
        };
        executor.send(&object, step, before, iron).await?;
    }
    panic!("it never ends");
}

fn executor(store: &Store, right: Until) -> Executor<Store, Until> {
    Executor::new(store.clone(), right).with_clock(now)
}

const PLANS: [&[Step]; 3] = [
    &[Step::BootNetworkOnce, Step::PowerOn],
    &[Step::ForceOff, Step::ClearBootOverride],
    &[Step::ForceRestart],
];

fn found(plan: &[Step]) -> PowerState {
    if plan.contains(&Step::PowerOn) {
        PowerState::Off
    } else {
        PowerState::On
    }
}

#[tokio::test]
async fn dropped_after_its_nth_input_or_output_no_power_action_is_sent_twice_and_the_work_is_done_or_called_unknown()
 {
    for plan in PLANS {
        for n in 0.. {
            let store = Store::new(plan);
            let iron = Iron::new(&store, found(plan));
            let executor = executor(&store, FOREVER);
            let stop = gate::Gate::stopping_at(n);
            let ended = tokio::select! {
                done = gate::with(stop.clone(), work(&executor, &iron)) => { done.unwrap(); true }
                () = stop.stopped() => false,
            };
            // A successor takes over from what is recorded.
            work(&executor, &iron).await.unwrap();
            let sent = iron.state.lock().sent.clone();
            let status = store.status();
            for step in plan.iter().filter(|step| step.is_power()) {
                let times = sent.iter().filter(|s| s == &step).count();
                if step.is_repeatable() {
                    assert_eq!(times, 1, "n = {n}: {sent:?}");
                } else {
                    // An unmoved LastResetTime does not show that it was not sent: nobody sends it a second time.
                    let done = Some(RunPhase::Succeeded);
                    assert!(times <= 1, "n = {n}: {sent:?}");
                    assert!(times == 1 || status.phase != done, "n = {n}: {status:?}");
                }
            }
            let unknown = status.phase == Some(RunPhase::OutcomeUnknown);
            assert!(
                status.phase == Some(RunPhase::Succeeded)
                    || unknown && !plan.iter().all(Step::is_repeatable),
                "n = {n}: {status:?}"
            );
            assert!(status.intent.is_none() && status.finished_at.is_some());
            if ended {
                assert!(n >= 8, "the harness must have something to drop");
                break;
            }
        }
    }
}

#[tokio::test]
async fn each_step_failing_in_turn_leaves_a_record_that_says_so_and_nothing_is_sent_twice() {
    for plan in PLANS {
        for n in 0..plan.len() {
            for (error, happens) in [
                (SendError::Refused("400".into()), false),
                (SendError::NotSent("no route".into()), false),
                (SendError::Unknown("cut".into()), false),
                (SendError::Unknown("cut".into()), true),
            ] {
                let store = Store::new(plan);
                let iron = Iron::new(&store, found(plan));
                iron.state.lock().wrong = Some((n, error.clone(), happens));
                work(&executor(&store, FOREVER), &iron).await.unwrap();
                let sent = iron.state.lock().sent.clone();
                for step in plan {
                    assert!(
                        sent.iter().filter(|s| s == &step).count() <= 1,
                        "{error:?} at {n}: {sent:?}"
                    );
                }
                let status = store.status();
                // What surely did not leave may be sent again; a restart that may have left may not.
                let lost = matches!(error, SendError::Unknown(_))
                    && !happens
                    && plan.get(n).is_some_and(|step| !step.is_repeatable());
                let expected = if lost {
                    assert_eq!(sent, []);
                    RunPhase::OutcomeUnknown
                } else {
                    RunPhase::Succeeded
                };
                assert_eq!(status.phase, Some(expected), "{error:?} at {n}: {status:?}");
                let failed = status
                    .results
                    .iter()
                    .filter(|r| r.outcome != StepOutcome::Succeeded)
                    .count();
                assert_eq!(
                    failed,
                    usize::from(!happens),
                    "{error:?} at {n}: {status:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_restart_that_nothing_can_show_is_not_repeated() {
    let store = Store::new(&[Step::ForceRestart]);
    let iron = Iron::new(&store, PowerState::On);
    iron.state.lock().wrong = Some((0, SendError::Unknown("cut".into()), true));
    let executor = executor(&store, FOREVER);
    let sent = executor
        .send(&store.get(), &Step::ForceRestart, Before::default(), &iron)
        .await;
    assert!(sent.unwrap().status.clone().unwrap().intent.is_some());
    work(&executor, &iron).await.unwrap();
    assert_eq!(store.status().phase, Some(RunPhase::OutcomeUnknown));
    assert_eq!(iron.state.lock().sent.len(), 1);
}

#[tokio::test]
async fn a_restart_whose_last_reset_time_has_not_moved_is_unknown_and_is_not_sent_again() {
    for happens in [true, false] {
        let store = Store::new(&[Step::ForceRestart]);
        let iron = Iron::new(&store, PowerState::On);
        {
            let mut state = iron.state.lock();
            state.forgets_resets = true;
            state.wrong = Some((0, SendError::Unknown("cut".into()), happens));
        }
        work(&executor(&store, FOREVER), &iron).await.unwrap();
        let status = store.status();
        assert_eq!(
            status.phase,
            Some(RunPhase::OutcomeUnknown),
            "{happens}: {status:?}"
        );
        let ended = status.results.last().unwrap();
        assert_eq!(ended.outcome, StepOutcome::Unknown);
        assert!(ended.evidence.contains("late or never"), "{ended:?}");
        assert_eq!(iron.state.lock().sent.len(), usize::from(happens));
    }
}

#[tokio::test]
async fn a_restart_that_surely_did_not_leave_may_be_sent() {
    for error in [
        SendError::NotSent("connection refused".into()),
        SendError::Refused("409".into()),
    ] {
        let store = Store::new(&[Step::ForceRestart]);
        let iron = Iron::new(&store, PowerState::On);
        iron.state.lock().wrong = Some((0, error, false));
        work(&executor(&store, FOREVER), &iron).await.unwrap();
        assert_eq!(store.status().phase, Some(RunPhase::Succeeded));
        assert_eq!(iron.state.lock().sent, [Step::ForceRestart]);
    }
}

#[tokio::test]
async fn a_step_repeated_with_an_old_observation_is_a_conflict_and_is_not_sent() {
    let store = Store::new(&[Step::PowerOn]);
    let iron = Iron::new(&store, PowerState::Off);
    let executor = executor(&store, FOREVER);
    let old = store.get();
    executor
        .send(&old, &Step::PowerOn, Before::default(), &iron)
        .await
        .unwrap();
    let again = executor
        .send(&old, &Step::PowerOn, Before::default(), &iron)
        .await;
    assert!(matches!(again, Err(ExecutorError::Record(error)) if error.is_conflict()));
    assert_eq!(iron.state.lock().sent.len(), 1);
}

#[tokio::test]
async fn an_open_intent_is_settled_and_never_sent_over() {
    let store = Store::new(&[Step::PowerOn]);
    let iron = Iron::new(&store, PowerState::Off);
    iron.state.lock().wrong = Some((0, SendError::Unknown("cut".into()), false));
    let executor = executor(&store, FOREVER);
    executor
        .send(&store.get(), &Step::PowerOn, Before::default(), &iron)
        .await
        .unwrap();
    let again = executor
        .send(&store.get(), &Step::PowerOn, Before::default(), &iron)
        .await;
    assert!(matches!(again, Err(ExecutorError::Unsettled)));
}

#[tokio::test]
async fn nothing_is_sent_by_a_replica_whose_lease_ends_before_the_deadline() {
    let store = Store::new(&[Step::PowerOn]);
    let iron = Iron::new(&store, PowerState::Off);
    let short = executor(&store, Until(NOW.get() + 2));
    let sent = short
        .send(&store.get(), &Step::PowerOn, Before::default(), &iron)
        .await;
    assert!(matches!(sent, Err(ExecutorError::LeaseTooShort)));
    assert_eq!(iron.state.lock().sent, []);
    assert!(store.status().intent.is_none());
}

#[tokio::test]
async fn an_intent_that_took_too_long_to_write_is_not_sent() {
    /// Writing takes longer than the call may.
    #[derive(Clone)]
    struct Slow(Store);
    impl Records for Slow {
        async fn create(&self, run: &ServerRun) -> Result<Arc<ServerRun>, Error> {
            self.0.create(run).await
        }
        async fn replace_status(&self, run: &ServerRun) -> Result<Arc<ServerRun>, Error> {
            pass(SignedDuration::from_mins(1).as_secs());
            self.0.replace_status(run).await
        }
    }
    let store = Store::new(&[Step::PowerOn]);
    let iron = Iron::new(&store, PowerState::Off);
    let executor = Executor::new(Slow(store.clone()), FOREVER).with_clock(now);
    executor
        .send(&store.get(), &Step::PowerOn, Before::default(), &iron)
        .await
        .unwrap();
    assert_eq!(iron.state.lock().sent, []);
    assert_eq!(
        store.status().results.last().map(|r| r.outcome.clone()),
        Some(StepOutcome::NotSent)
    );
}

#[tokio::test]
async fn what_a_slow_bmc_takes_to_be_read_is_not_taken_from_the_calls_time() {
    let store = Store::new(&[Step::PowerOn]);
    let iron = Iron::new(&store, PowerState::Off);
    iron.state.lock().reading = run::CALL.as_secs() + 1;
    executor(&store, FOREVER)
        .send(&store.get(), &Step::PowerOn, Before::default(), &iron)
        .await
        .unwrap();
    assert_eq!(iron.state.lock().sent, [Step::PowerOn]);
    let last = store.status().results.pop();
    assert_eq!(last.map(|r| r.outcome), Some(StepOutcome::Succeeded));
}

#[tokio::test]
async fn an_erasure_is_reported_by_serial_number_and_verified_by_nobody() {
    let step = Step::EraseDrive("D1".into());
    let store = Store::new(std::slice::from_ref(&step));
    let iron = Iron::new(&store, PowerState::Off);
    let executor = executor(&store, FOREVER);
    executor
        .send(&store.get(), &step, Before::default(), &iron)
        .await
        .unwrap();
    executor
        .erased(
            &store.get(),
            "D1",
            &Erasure::Done {
                evidence: "completed".into(),
            },
        )
        .await
        .unwrap();
    let drives = store.status().drives;
    assert_eq!(drives.len(), 1);
    assert_eq!(drives[0].serial_number, "D1");
    assert_eq!(drives[0].class, corten_api::corten::EraseClass::Reported);
    assert!(!drives[0].verified);
}

#[tokio::test]
async fn progress_is_written_at_each_tenth_and_goes_with_its_step() {
    let store = Store::new(&[Step::ProbeErase]);
    let executor = Executor::new(store.clone(), FOREVER).with_clock(now);
    let (run, step) = (store.get(), Step::ProbeErase);
    let started = executor.granted(&run, &step, "start".into(), Vec::new(), String::new());
    started.await.unwrap();
    let version = || store.get().metadata.resource_version.unwrap();
    let before: u64 = version().parse().unwrap();
    for percent in 0..=100 {
        pass(3);
        let run = store.get();
        executor.progressed(&run, "erasing", percent).await.unwrap();
    }
    let shown = store.status().progress.unwrap();
    assert_eq!((shown.what.as_str(), shown.percent), ("erasing", 100));
    assert_eq!(version().parse::<u64>().unwrap() - before, 11);
    // Another word at once costs no write, whatever a probe says.
    let run = store.get();
    executor.progressed(&run, "reading back", 0).await.unwrap();
    assert_eq!(store.status().progress.unwrap().what, "erasing");
    let ended = executor.reported(
        &run,
        &step,
        StepOutcome::Succeeded,
        String::new(),
        Vec::new(),
    );
    ended.await.unwrap();
    assert_eq!(store.status().progress, None);
}

#[tokio::test]
async fn a_probes_report_takes_away_no_intent_of_another_step() {
    let store = Store::new(&[Step::ProbeErase, Step::ForceOff]);
    let executor = Executor::new(store.clone(), FOREVER).with_clock(now);
    let (run, step) = (store.get(), Step::ProbeErase);
    let started = executor.granted(&run, &step, "start".into(), Vec::new(), String::new());
    started.await.unwrap();
    {
        let mut stored = store.0.lock();
        stored.status.get_or_insert_default().intent = Some(Intent {
            id: "i".into(),
            step: Step::ForceOff.to_string(),
            observed: Observation::default(),
            written_at: now(),
            deadline: now(),
            holder: "me".into(),
        });
    }
    let run = store.get();
    let refused = executor.reported(
        &run,
        &step,
        StepOutcome::Succeeded,
        String::new(),
        Vec::new(),
    );
    assert!(matches!(refused.await, Err(ExecutorError::Unsettled)));
    assert!(store.status().intent.is_some());
}
