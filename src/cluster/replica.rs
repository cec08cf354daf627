//! A unit as a function of its log: records in, state and outcomes out.
//!
//! Nothing else goes in: no clock, no setting of this node. Two nodes that have applied the log up to the same offset have the
//! same logs and reservations.
//!
//! Void logs leave the disk of a standalone store by compaction, whenever that comes. Here nothing is reclaimed so (the filter of
//! such a store never hears the time): after a policy with a longer retention one node would still have what another has not.

use super::command::{Claim, Command, Policy};
use super::epoch::{Epoch, Former};
use super::policy::{InForce, PolicyError};
use super::position::Position;
use super::record::{Head, Record, decode};
use super::record_error::RecordError;
use crate::model::{EventId, TsMs};
use crate::shard::{ApplyError, LogApplier, LogCommand, LogOutcome};
use crate::store::{Erasure, Store, StoreError};
use std::sync::Arc;

/// A record as Kafka has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// Its offset.
    pub offset: u64,
    /// When the broker appended it.
    pub appended: TsMs,
    /// Names and values of its headers.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
    /// Its value.
    pub payload: Option<&'a [u8]>,
}

/// What a record did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its offset.
    pub offset: u64,
    /// Who sent it, if it was a command: the outcome goes to whoever waits for it there.
    pub head: Option<Head>,
    /// Whose records were acknowledged then: the owner's of this epoch.
    pub owner: Option<Epoch>,
    /// What became of it.
    pub effect: Effect,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An event, or a call of `/reserve` or `/release`.
    Done(LogOutcome),
    /// A user was erased.
    Erased(Erasure),
    /// Somebody took the partition over.
    Claimed(Claim, Former),
    /// Its owner gave it up, or an earlier one did, which changes nothing.
    Released,
    /// A policy is in force.
    Policy(u64),
    /// It has no effect: its sender was not the owner, or a later policy is in force.
    Void,
    /// It has no effect: it cannot be read. The code, or what is wrong.
    Unreadable(String),
}

/// Why the log cannot be applied any further: the unit stops.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// A record is of a newer version.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A policy is of a newer engine.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The unit cannot apply it.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// What the unit stored of its log cannot be read.
    #[error("what is stored of the log cannot be read: {0}")]
    Stored(&'static str),
    /// Records are missing.
    #[error(
        "cluster_log_gap: the log begins at offset {first}, and the unit has applied it up to {next} only; \
         restore the unit from a newer snapshot"
    )]
    Gap {
        /// The first offset that the log has.
        first: u64,
        /// The next one that the unit needs.
        next: u64,
    },
}

impl From<StoreError> for ReplicaError {
    fn from(error: StoreError) -> Self {
        Self::Apply(error.into())
    }
}

/// A unit and where it stands.
pub struct Replica {
    applier: LogApplier,
    position: Position,
    in_force: InForce,
    /// As it was in the record.
    policy: Policy,
    /// Which partition it is: one that has an id of its own gives it to events without one.
    id_prefix: String,
}

/// Commands of one instant that were read and not applied yet.
#[derive(Default)]
struct Pending<'a> {
    commands: Vec<LogCommand<'a>>,
    heads: Vec<(u64, Option<Head>)>,
}

impl Replica {
    /// Opens a unit where it stands. `initial` is the policy until the log has one: the same for all nodes. Blocks on disk.
    pub fn open(store: Arc<Store>, topic: &str, partition: u32, initial: Policy) -> Result<Self, ReplicaError> {
        let position = match store.meta().log_position()? {
            None => Position::default(),
            Some(bytes) => Position::from_bytes(&bytes).ok_or(ReplicaError::Stored("the position"))?,
        };
        let policy = match store.meta().log_policy()? {
            None => initial,
            Some(json) => serde_json::from_slice(&json).map_err(|_| ReplicaError::Stored("the policy"))?,
        };
        let in_force = policy.in_force()?;
        let applier = LogApplier::open(store)?;
        Ok(Self { applier, position, in_force, policy, id_prefix: format!("{topic}-{partition}-") })
    }

    /// Where it stands.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The policy in force.
    pub fn policy(&self) -> &InForce {
        &self.in_force
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        self.applier.store()
    }

    /// Checks that the log still has what the unit needs next; `first` is the first offset that it has.
    pub fn check_reach(&self, first: u64) -> Result<(), ReplicaError> {
        let next = self.position.next;
        if first > next { Err(ReplicaError::Gap { first, next }) } else { Ok(()) }
    }

    /// Applies records, which must be in the order of their offsets. Those that were applied before are passed over. After an
    /// error the unit is where the last whole write left it, and must not be used. Blocks on disk.
    pub fn apply(&mut self, records: &[LogRecord<'_>]) -> Result<Vec<Applied>, ReplicaError> {
        let mut applied = Vec::with_capacity(records.len());
        let mut pending = Pending::default();
        for record in records {
            if record.offset < self.position.next {
                continue;
            }
            let now = self.position.clock.now().max(record.appended);
            if now != self.position.clock.now() {
                self.flush(&mut pending, &mut applied)?;
                self.position.clock.advance(record.appended);
            }
            self.take(record, &mut pending, &mut applied)?;
            self.position.next = record.offset + 1;
        }
        self.flush(&mut pending, &mut applied)?;
        Ok(applied)
    }

    fn take<'a>(
        &mut self,
        record: &LogRecord<'a>,
        pending: &mut Pending<'a>,
        applied: &mut Vec<Applied>,
    ) -> Result<(), ReplicaError> {
        let decoded = match decode(record.headers.iter().copied(), record.payload) {
            Ok(decoded) => decoded,
            Err(newer @ RecordError::Newer { .. }) => return Err(newer.into()),
            Err(RecordError::Malformed(why)) => {
                return self.note(record.offset, None, Effect::Unreadable(why), pending, applied);
            }
        };
        match decoded {
            Record::Event(payload) => self.take_event(record, payload, pending, applied),
            Record::Command(head, command) => self.take_command(record.offset, head, command, pending, applied),
        }
    }

    fn take_event<'a>(
        &mut self,
        record: &LogRecord<'a>,
        payload: Option<&'a [u8]>,
        pending: &mut Pending<'a>,
        applied: &mut Vec<Applied>,
    ) -> Result<(), ReplicaError> {
        let Some(payload) = payload else {
            return self.note(record.offset, None, Effect::Unreadable("it has no value".to_owned()), pending, applied);
        };
        let mut event = match self.in_force.events.record(payload) {
            Ok(event) => event,
            Err(reject) => {
                let why = format!("{}: {}", reject.code, reject.detail);
                return self.note(record.offset, None, Effect::Unreadable(why), pending, applied);
            }
        };
        if event.id.is_none() {
            // A record that is read again is the same event.
            event.id = EventId::new(format!("{}{}", self.id_prefix, record.offset)).ok();
        }
        pending.heads.push((record.offset, None));
        pending.commands.push(LogCommand::Event(event));
        Ok(())
    }

    fn take_command<'a>(
        &mut self,
        offset: u64,
        head: Head,
        command: Command,
        pending: &mut Pending<'a>,
        applied: &mut Vec<Applied>,
    ) -> Result<(), ReplicaError> {
        if let Some(epoch) = head.epoch
            && self.position.fence.is_void(epoch)
            && !matches!(command, Command::Release | Command::Policy(_))
        {
            return self.note(offset, Some(head), Effect::Void, pending, applied);
        }
        let command = match command {
            Command::Reserve(call) => LogCommand::Reserve(call),
            Command::ReleaseReservation(call) => LogCommand::Release { user: call.user, id: call.id, da: call.da },
            Command::Claim(claim) => {
                self.flush(pending, applied)?;
                let former = self.position.fence.claim(offset, head.run);
                return self.note(offset, Some(head), Effect::Claimed(claim, former), pending, applied);
            }
            Command::Release => {
                self.flush(pending, applied)?;
                if let Some(epoch) = head.epoch {
                    self.position.fence.release(epoch);
                }
                return self.note(offset, Some(head), Effect::Released, pending, applied);
            }
            Command::Erase(call) => {
                self.flush(pending, applied)?;
                self.position.next = offset + 1;
                let (position, now) = (self.position, self.position.clock.now());
                let owner = position.fence.owner();
                let note = |commit: &mut crate::store::Commit<'_>| commit.put_log_position(&position.to_bytes());
                let erased = self.applier.erase(now, &call.user, call.by, note)?;
                applied.push(Applied { offset, head: Some(head), owner, effect: Effect::Erased(erased) });
                return Ok(());
            }
            Command::Policy(policy) => return self.take_policy(offset, head, policy, pending, applied),
        };
        pending.heads.push((offset, Some(head)));
        pending.commands.push(command);
        Ok(())
    }

    /// A policy is copied to all partitions by the owner of the first, so its epoch is not one of this partition: revisions
    /// rise, and the highest is in force.
    fn take_policy(
        &mut self,
        offset: u64,
        head: Head,
        policy: Policy,
        pending: &mut Pending<'_>,
        applied: &mut Vec<Applied>,
    ) -> Result<(), ReplicaError> {
        self.flush(pending, applied)?;
        if policy.revision <= self.policy.revision {
            return self.note(offset, Some(head), Effect::Void, pending, applied);
        }
        let effect = match policy.in_force() {
            Ok(in_force) => {
                self.in_force = in_force;
                self.policy = policy;
                Effect::Policy(self.policy.revision)
            }
            Err(newer @ PolicyError::Newer(_)) => return Err(newer.into()),
            Err(PolicyError::Invalid(why)) => Effect::Unreadable(why),
        };
        self.note(offset, Some(head), effect, pending, applied)
    }

    /// What was read before is applied, and this record then noted.
    fn note(
        &mut self,
        offset: u64,
        head: Option<Head>,
        effect: Effect,
        pending: &mut Pending<'_>,
        applied: &mut Vec<Applied>,
    ) -> Result<(), ReplicaError> {
        let is_stored = matches!(effect, Effect::Claimed(..) | Effect::Released | Effect::Policy(_));
        self.flush(pending, applied)?;
        if is_stored {
            self.position.next = offset + 1;
            let position = self.position;
            let policy = serde_json::to_vec(&self.policy).unwrap_or_default();
            self.applier.note(|commit| {
                commit.put_log_position(&position.to_bytes());
                commit.put_log_policy(&policy);
            })?;
        }
        applied.push(Applied { offset, head, owner: self.position.fence.owner(), effect });
        Ok(())
    }

    /// One turn: the commands of one instant under one policy and one owner.
    fn flush(&mut self, pending: &mut Pending<'_>, applied: &mut Vec<Applied>) -> Result<(), ReplicaError> {
        let Pending { commands, heads } = std::mem::take(pending);
        let Some((last, _)) = heads.last() else { return Ok(()) };
        self.position.next = last + 1;
        let (position, now) = (self.position, self.position.clock.now());
        let note = |commit: &mut crate::store::Commit<'_>| commit.put_log_position(&position.to_bytes());
        let outcomes = self.applier.apply(&self.in_force.policy, now, commands, note)?;
        let owner = position.fence.owner();
        for ((offset, head), outcome) in heads.into_iter().zip(outcomes) {
            applied.push(Applied { offset, head, owner, effect: Effect::Done(outcome) });
        }
        Ok(())
    }
}
