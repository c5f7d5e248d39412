//! A server, its machine and its objects, in memory: what decisions do to them, one at a time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use corten_api::metal::{Power, PowerState, ServerState};

use crate::{
    identity::Identity,
    inband::{self, Caller, Grant, SeenDrive},
    names,
    policy::Policy,
    run::{Before, CALL, Closed, Done, Erased, Intent, Outcome, Phase, Run, Step, Worth},
    server::{
        Abilities, Act, Amendment, Attachment, Boot, Call, Claim, ClaimKey, Decision, Drive,
        Finding, Guard, Inventory, Machine, Media, Notes, Observed, Reach, Reclaim, Record,
        Services, Tombstone, after, condition, decide,
    },
};

pub(super) const UUID: &str = "4c4c4544-0042-3510-8052-b7c04f4c3232";

/// The machine itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Iron {
    pub power: PowerState,
    pub identity: Identity,
    /// The operating system shuts down when asked.
    pub listens: bool,
    pub boot_override: bool,
    pub boot_lasts: bool,
    pub resets: u32,
    pub drives: Vec<Drive>,
    pub erased: Vec<String>,
    pub led: &'static str,
    /// Slots that hold a virtual medium.
    pub media: Vec<String>,
    /// The BMC says that it ejects, and does not.
    pub stuck: bool,
    /// What a probe sees; the drives if absent.
    pub seen: Option<Vec<SeenDrive>>,
    /// Storage controllers that the probe has no driver for.
    pub unseen: Vec<String>,
    pub can: Abilities,
}

#[derive(Clone, Debug)]
pub(super) struct Bench {
    pub now: Timestamp,
    pub annotations: BTreeMap<String, String>,
    pub uid: String,
    pub deleting: bool,
    pub finalized: bool,
    pub gone: bool,
    pub state: Option<ServerState>,
    pub findings: Vec<Finding>,
    pub discovery_since: Option<Timestamp>,
    pub claim_ref: Option<ClaimKey>,
    pub power: Option<Power>,
    pub generation: i64,
    pub led: Option<String>,
    pub reclaim: Reclaim,
    pub claim: Option<Claim>,
    pub boot: Boot,
    pub iron: Iron,
    pub answers: bool,
    pub reading: Option<Machine>,
    pub inventory: Option<Inventory>,
    pub unread: Vec<String>,
    pub known_drives: Option<Vec<String>>,
    pub run: Option<Run>,
    pub runs_made: u32,
    pub closed: Vec<Closed>,
    pub policy: Policy,
    pub guard: Guard,
    pub dispute: Option<String>,
    pub tombstone: Option<Tombstone>,
    pub buried: bool,
    pub services: Option<Services>,
    pub heard: Option<Timestamp>,
    pub call: Option<Call>,
    pub unserved: Option<(Timestamp, String)>,
    pub served_at: Option<Timestamp>,
    /// What reached the machine.
    pub sent: Vec<Step>,
    /// What was said.
    pub remarks: Vec<&'static str>,
}

/// How a step goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Done,
    /// The process dies after the intent was written.
    DiesBefore,
    /// The process dies after the BMC got it.
    DiesAfter,
    /// The BMC refuses.
    Refused,
    /// It does not get as far as the BMC.
    NotSent,
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(super) fn drive(serial: &str) -> Drive {
    Drive {
        serial: serial.into(),
        label: "disk, bay".into(),
        can_erase: true,
        lists_operations: false,
        volumes: Vec::new(),
        attachment: Attachment::Local,
    }
}

impl Bench {
    /// A machine that nobody has looked at yet, off, with two drives.
    pub fn new() -> Self {
        Self {
            now: at(1_000_000),
            annotations: BTreeMap::new(),
            uid: "server-1".into(),
            deleting: false,
            finalized: true,
            gone: false,
            state: None,
            findings: Vec::new(),
            discovery_since: None,
            claim_ref: None,
            power: None,
            generation: 1,
            led: None,
            reclaim: Reclaim::Recycle,
            claim: None,
            boot: Boot::Missing,
            iron: Iron {
                power: PowerState::Off,
                identity: Identity::new(UUID, "S1"),
                listens: true,
                boot_override: false,
                boot_lasts: false,
                resets: 0,
                drives: vec![drive("D1"), drive("D2")],
                erased: Vec::new(),
                led: "Off",
                media: Vec::new(),
                stuck: false,
                seen: None,
                unseen: Vec::new(),
                can: Abilities::default(),
            },
            answers: true,
            reading: None,
            inventory: None,
            unread: Vec::new(),
            known_drives: Some(Vec::new()),
            run: None,
            runs_made: 0,
            closed: Vec::new(),
            policy: Policy {
                accept_reported: true,
                ..Policy::default()
            },
            guard: Guard::default(),
            dispute: None,
            tombstone: None,
            buried: false,
            services: None,
            heard: None,
            call: None,
            unserved: None,
            served_at: None,
            sent: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Available, off, clean.
    pub fn available() -> Self {
        let mut bench = Self::new();
        bench.rest();
        assert_eq!(
            bench.state,
            Some(ServerState::Available),
            "{:?}",
            bench.findings
        );
        bench
    }

    /// Bound to a claim that wants it on; the boot configuration is ready; nothing was done yet.
    pub fn bound(uid: &str) -> Self {
        let mut bench = Self::available();
        bench.bind(uid);
        bench.boot = Boot::Ready;
        bench
    }

    /// Bound, booted, running.
    pub fn provisioned(uid: &str) -> Self {
        let mut bench = Self::bound(uid);
        bench.rest();
        assert_eq!(bench.iron.power, PowerState::On);
        assert_eq!(bench.note(names::PROVISIONED), Some(uid));
        bench.sent.clear();
        bench
    }

    /// Running, its claim being deleted, the release recorded.
    pub fn releasing(uid: &str) -> Self {
        let mut bench = Self::provisioned(uid);
        bench.delete_claim();
        bench
    }

    /// Released, dirty, off: due to be cleaned.
    pub fn dirty(uid: &str) -> Self {
        let mut bench = Self::releasing(uid);
        while bench.claim_ref.is_some() {
            bench.step();
            bench.pass_time();
        }
        bench.sent.clear();
        bench
    }

    pub fn bind(&mut self, uid: &str) {
        self.claim_ref = Some(ClaimKey {
            namespace: "team".into(),
            name: "web".into(),
        });
        self.set(names::CLAIM_UID, uid);
        self.set(names::DIRTY, uid);
        self.claim = Some(Claim {
            uid: uid.into(),
            deleting: false,
            power: Power::On,
            diskless: false,
            diskless_stated: false,
            written: false,
            allow_operations: false,
        });
    }

    pub fn delete_claim(&mut self) {
        let claim = self.claim.as_mut().unwrap();
        claim.deleting = true;
        let uid = claim.uid.clone();
        self.set(names::RELEASE, &uid);
    }

    pub fn set(&mut self, key: &str, value: &str) {
        self.annotations.insert(key.into(), value.into());
    }

    pub fn note(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    pub fn finding(&self, kind: &str) -> Option<&Finding> {
        self.findings.iter().find(|f| f.kind == kind)
    }

    pub fn reason(&self, kind: &str) -> &'static str {
        self.finding(kind).map_or("", |f| f.reason)
    }

    /// What the process knew is gone; what is recorded is not.
    pub fn restart(&mut self) {
        self.reading = None;
        self.inventory = None;
    }

    /// As after a restored backup or a move: another UID, no status, no runs of that UID.
    pub fn restore(&mut self) {
        self.restart();
        self.uid.push_str("-restored");
        self.state = None;
        self.findings.clear();
        self.discovery_since = None;
        self.run = None;
        self.closed.clear();
        if let Some(claim) = &mut self.claim {
            claim.uid.push_str("-restored");
        }
    }

    pub fn observe(&self) -> Observed {
        Observed {
            now: self.now,
            record: Record {
                name: "rack1-system-0".into(),
                uid: self.uid.clone(),
                deleting: self.deleting,
                finalized: self.finalized,
                state: self.state.clone(),
                discovered: self
                    .finding(condition::DISCOVERED)
                    .is_some_and(|f| f.holds == Some(true)),
                discovery_since: self.discovery_since,
                erased: self.finding(condition::ERASED).map(|f| f.reason.to_owned()),
                claim: self.claim_ref.clone(),
                power: self.power.clone(),
                generation: self.generation,
                led: self.led.clone(),
                boot_order: Vec::new(),
                reclaim: self.reclaim,
                notes: Notes::of(&self.annotations),
            },
            claim: self.claim_ref.as_ref().and(self.claim.clone()),
            boot: self.boot.clone(),
            reach: match (self.answers, &self.reading) {
                (false, _) => Reach::Lost {
                    reason: "Unreachable".into(),
                    message: "no answer".into(),
                },
                (true, None) => Reach::Unknown,
                (true, Some(machine)) => Reach::Reached(machine.clone()),
            },
            inventory: self.inventory.clone(),
            known_drives: self.known_drives.clone(),
            run: self.run.clone(),
            closed: self.closed.clone(),
            policy: self.policy.clone(),
            guard: self.guard.clone(),
            dispute: self.dispute.clone(),
            tombstone: self.tombstone.clone(),
            buried: self.buried,
            services: self.services.clone(),
            heard: self.heard,
            call: self.call.clone(),
            unserved: self.unserved.clone(),
            served_at: self.served_at,
            answering_since: None,
        }
    }

    /// One decision, carried out.
    pub fn step(&mut self) -> Decision {
        self.step_with(Delivery::Done)
    }

    pub fn step_with(&mut self, delivery: Delivery) -> Decision {
        self.now = after(self.now, SignedDuration::from_millis(1));
        let decision = decide(&self.observe());
        self.record(&decision);
        self.carry_out(&decision.act, delivery);
        decision
    }

    /// Decides until there is nothing to do now. What waits is waited for, up to `hours`.
    pub fn rest(&mut self) {
        for _ in 0..200 {
            let decision = self.step();
            if decision.act == Act::Nothing {
                match decision.wake {
                    Some(wake) if wake < after(self.now, SignedDuration::from_mins(20)) => {
                        self.now = wake.max(self.now)
                    }
                    _ => return,
                }
            }
        }
        panic!(
            "no rest: {:?} {:?} {:?} {:?}",
            self.state,
            self.sent,
            self.run,
            decide(&self.observe())
        );
    }

    /// Waits for whatever the next decision waits for.
    pub fn pass_time(&mut self) {
        let decision = decide(&self.observe());
        if decision.act == Act::Nothing {
            self.record(&decision);
            self.now = decision.wake.unwrap_or(self.now).max(self.now);
        }
    }

    /// Goes on until there is no run.
    pub fn until_run_is_over(&mut self) {
        while self.run.is_some() {
            self.step();
            self.pass_time();
        }
    }

    pub fn record(&mut self, decision: &Decision) {
        self.remarks
            .extend(decision.remarks.iter().map(|r| r.reason));
        let Some(state) = &decision.state else { return };
        // The engine records the state when the act is done; findings are the same here.
        if matches!(decision.act, Act::Nothing | Act::Show) {
            self.state = Some(state.clone());
        }
        self.findings
            .retain(|f| condition::LASTING.contains(&f.kind));
        for finding in &decision.findings {
            if finding.kind == condition::DISCOVERED {
                self.discovery_since = match finding.holds {
                    Some(false) => self.discovery_since.or(Some(self.now)),
                    _ => None,
                };
            }
            self.findings.retain(|f| f.kind != finding.kind);
            self.findings.push(finding.clone());
        }
    }

    pub fn carry_out(&mut self, act: &Act, delivery: Delivery) {
        match act {
            Act::Nothing | Act::Show => {}
            Act::ReadMachine => self.reading = self.answers.then(|| self.look()),
            Act::ReadMedia => {
                self.reading = self.answers.then(|| Machine {
                    media: Media::Inserted(self.iron.media.clone()),
                    ..self.look()
                });
            }
            Act::ReadInventory => {
                self.reading = self.answers.then(|| self.look());
                self.inventory = Some(Inventory {
                    read_at: self.now,
                    unread: self.unread.clone(),
                    lists_drives: true,
                    drives: self.iron.drives.clone(),
                });
            }
            Act::Amend(amendment) => self.amend(amendment),
            Act::StartRun(plan) => {
                assert!(self.run.is_none(), "two open runs");
                self.runs_made += 1;
                self.run = Some(Run {
                    name: format!("run-{}", self.runs_made),
                    kind: plan.kind,
                    occasion: plan.occasion.clone(),
                    claim_uid: plan.claim_uid.clone(),
                    created_at: self.now,
                    phase: Phase::Pending,
                    plan: plan.steps.iter().map(|p| p.step.clone()).collect(),
                    intent: None,
                    results: Vec::new(),
                    progressed_at: None,
                    drives: Vec::new(),
                });
            }
            Act::Send(step) => self.send(step, delivery),
            Act::Settle(settlement) => {
                let run = self.run.as_mut().unwrap();
                let intent = run.intent.take().unwrap();
                run.results.push(Done {
                    step: intent.step,
                    outcome: settlement.outcome,
                    started_at: intent.written_at,
                    finished_at: self.now,
                    evidence: settlement.evidence.clone(),
                });
            }
            Act::FollowErasure { serial } => {
                self.iron.erased.push(serial.clone());
                self.end(Step::EraseDrive(serial.clone()), Outcome::Succeeded);
            }
            Act::FinishRun { phase, message } => {
                let run = self.run.take().unwrap();
                self.closed.insert(
                    0,
                    Closed {
                        kind: run.kind,
                        occasion: run.occasion,
                        phase: *phase,
                        finished_at: self.now,
                        message: message.clone(),
                    },
                );
            }
            Act::SettleTombstone { .. } => self.tombstone = None,
            Act::LeaveTombstone(_) => self.buried = true,
            Act::RecordFailedDiscovery { .. } => {
                self.inventory = None;
                self.closed.insert(
                    0,
                    Closed {
                        kind: crate::run::Kind::Discovery,
                        occasion: String::new(),
                        phase: Phase::Failed,
                        finished_at: self.now,
                        message: String::new(),
                    },
                );
            }
        }
    }

    fn amend(&mut self, amendment: &Amendment) {
        for key in &amendment.remove {
            self.annotations.remove(*key);
        }
        for (key, value) in &amendment.set {
            self.annotations.insert((*key).into(), value.clone());
        }
        if amendment.unbind {
            self.claim_ref = None;
            self.power = None;
        }
        match amendment.finalizer {
            Some(true) => self.finalized = true,
            Some(false) => {
                self.finalized = false;
                self.gone = self.deleting;
            }
            None => {}
        }
    }

    pub fn look(&self) -> Machine {
        Machine {
            read_at: self.now,
            power: self.iron.power.clone(),
            identity: self.iron.identity.clone(),
            last_reset: Some(self.iron.resets.to_string()),
            boot_override: Some(self.iron.boot_override),
            boot_lasts: self.iron.boot_lasts,
            led: Some(self.iron.led.into()),
            boot_order: Vec::new(),
            media: Media::Unread,
            can: self.iron.can,
        }
    }

    fn send(&mut self, step: &Step, delivery: Delivery) {
        let written_at = self.now;
        let before = self.reading.as_ref().map(|m| Before {
            power: Some(m.power.clone()),
            last_reset: m.last_reset.clone(),
        });
        let run = self.run.as_mut().expect("a step without a recorded run");
        assert!(
            run.intent.is_none(),
            "a step is sent while another is not settled"
        );
        run.phase = Phase::Running;
        run.intent = Some(Intent {
            id: "i".into(),
            step: step.clone(),
            before: before.unwrap_or_default(),
            written_at,
            deadline: after(written_at, CALL),
            holder: "me".into(),
        });
        if delivery == Delivery::DiesBefore {
            return self.restart();
        }
        let outcome = match delivery {
            Delivery::Refused => Outcome::Failed,
            Delivery::NotSent => Outcome::NotSent,
            _ => self.happen(step),
        };
        if delivery == Delivery::DiesAfter {
            return self.restart();
        }
        self.run.as_mut().unwrap().intent = None;
        self.end(step.clone(), outcome);
        self.reading = None;
    }

    fn happen(&mut self, step: &Step) -> Outcome {
        self.sent.push(step.clone());
        match step {
            Step::RequestShutdown if self.iron.listens => self.iron.power = PowerState::Off,
            Step::ForceOff => self.iron.power = PowerState::Off,
            Step::PowerOn => {
                if self.iron.power == PowerState::Off {
                    self.iron.resets += 1;
                }
                self.iron.power = PowerState::On;
            }
            Step::GracefulRestart | Step::ForceRestart | Step::PowerCycle => self.iron.resets += 1,
            Step::BootNetworkOnce
            | Step::BootHttpOnce
            | Step::BootUefiHttpOnce
            | Step::BootMediaOnce => self.iron.boot_override = true,
            Step::ClearBootOverride => self.iron.boot_override = false,
            Step::EraseDrive(_) => return Outcome::Accepted,
            Step::EjectMedium(slot) if !self.iron.stuck => {
                self.iron.media.retain(|other| other != slot);
            }
            _ => {}
        }
        Outcome::Succeeded
    }

    fn end(&mut self, step: Step, outcome: Outcome) {
        let now = self.now;
        self.run.as_mut().unwrap().results.push(Done {
            step,
            outcome,
            started_at: now,
            finished_at: now,
            evidence: "bench".into(),
        });
    }

    /// The probe calls with the machine's own identity and drives; what it is granted is recorded as the engine would.
    pub fn probe_calls(&mut self) -> Grant {
        for _ in 0..4 {
            let grant = self.probe_calls_once();
            if grant != Grant::Wait {
                return grant;
            }
            self.step();
        }
        Grant::Wait
    }

    /// As [`Self::probe_calls`], of a probe that does not ask again.
    pub fn probe_calls_once(&mut self) -> Grant {
        let run = self.run.as_ref().map(|run| run.name.clone());
        self.stranger_calls(run.unwrap_or_default(), self.iron.identity.clone())
    }

    pub fn stranger_calls(&mut self, run: String, identity: Identity) -> Grant {
        let caller = Caller {
            run,
            identity,
            start: "bench".into(),
            drives: self.iron.seen.clone().unwrap_or_else(|| {
                let drives = self.iron.drives.iter();
                let seen = drives.map(|drive| SeenDrive {
                    serial: drive.serial.clone(),
                    attachment: drive.attachment,
                    ..SeenDrive::default()
                });
                seen.collect()
            }),
            unseen: self.iron.unseen.clone(),
        };
        let started = self.run.as_ref().and_then(|run| run.last(&Step::PowerOn));
        let started = started.map(|done| done.finished_at);
        if self
            .call
            .as_ref()
            .is_none_or(|call| Some(call.at) <= started)
        {
            self.now = after(self.now, SignedDuration::from_millis(1));
            self.call = Some(Call {
                at: self.now,
                refused: None,
            });
        }
        let mut observed = self.observe();
        if observed.machine().is_none() {
            observed.reach = Reach::Reached(self.look());
        }
        let grant = inband::grant(&observed, &caller);
        let step = match &grant {
            Grant::Inventory => Step::ProbeInventory,
            Grant::BurnIn(seconds) => Step::ProbeBurnIn(*seconds),
            Grant::Erase { .. } => Step::ProbeErase,
            Grant::Write { .. } => Step::ProbeWrite,
            _ => return grant,
        };
        if let Grant::Erase {
            drives, left_out, ..
        } = &grant
        {
            let entry = |serial: &String, foreign, message: &str| Erased {
                serial: serial.clone(),
                class: Worth::None,
                verified: false,
                done: false,
                foreign,
                message: message.to_owned(),
            };
            let named = drives.iter().map(|serial| entry(serial, false, "granted"));
            let others = left_out.iter().map(|left| {
                let foreign = left.drive.attachment != Attachment::Local;
                entry(&left.drive.serial, foreign, &left.why)
            });
            self.run.as_mut().unwrap().drives = named.chain(others).collect();
        }
        self.end(step, Outcome::Accepted);
        grant
    }

    /// The boot services were asked for the claim's image.
    pub fn served(&mut self) {
        self.end(Step::ServeImage, Outcome::Succeeded);
    }

    /// The probe says how its work ended; erased drives are worth `worth`, read back or not.
    pub fn probe_reports(&mut self, outcome: Outcome, worth: Worth, verified: bool) {
        self.now = after(self.now, SignedDuration::from_millis(1));
        let run = self.run.as_mut().unwrap();
        let step = inband::work(run).unwrap();
        if step == Step::ProbeErase {
            for drive in run.drives.iter_mut().filter(|d| d.message == "granted") {
                drive.class = worth;
                drive.verified = verified;
                drive.done = outcome == Outcome::Succeeded;
            }
        }
        self.end(step, outcome);
    }
}
