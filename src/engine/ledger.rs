//! All logs in memory: what the backtest runs on, and the model test.

use super::{
    KeyLog, Logs, Outcome, Policy, Question, ReservationTerm, capped_until, count, is_counted, judge, release, reserve,
    takes_kind, why,
};
use crate::model::{CapKey, DaId, Entry, Event, EventId, Kind, Log, TsMs, UserId, Verdict, Why, event_hash};
use hashbrown::HashMap;

/// The logs of every (user, key) seen, without disk or shards.
#[derive(Debug, Default)]
pub struct Ledger {
    users: HashMap<String, User>,
    names: Names,
}

#[derive(Debug, Default)]
struct User {
    /// By the number of the key.
    logs: HashMap<usize, Log>,
    erased: Option<TsMs>,
}

/// Every key seen, by its number.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<String, usize>,
    all: Vec<String>,
}

impl Names {
    fn number(&mut self, key: &str) -> usize {
        if let Some(&number) = self.numbers.get(key) {
            return number;
        }
        self.numbers.insert(key.to_owned(), self.all.len());
        self.all.push(key.to_owned());
        self.all.len() - 1
    }
}

/// The logs of one user while a command is at work on them: as it sees them. What it does not change stays as it is.
struct UserWorkingSet<'l> {
    policy: &'l Policy,
    now: TsMs,
    names: &'l Names,
    stored: &'l mut HashMap<usize, Log>,
    taken: HashMap<usize, Log>,
    changed: Vec<usize>,
}

impl UserWorkingSet<'_> {
    fn take(&mut self, at: usize) {
        if !self.taken.contains_key(&at) {
            let mut log = self.stored.get(&at).cloned().unwrap_or_default();
            self.policy.refresh(&self.names.all[at], &mut log, self.now);
            self.taken.insert(at, log);
        }
    }

    fn put_back(mut self) {
        for at in self.changed {
            if let Some(log) = self.taken.remove(&at) {
                self.stored.insert(at, log);
            }
        }
    }
}

static NOTHING: Log = Log::empty();

impl Logs for UserWorkingSet<'_> {
    type At = usize;

    fn log(&self, at: usize) -> &Log {
        self.taken.get(&at).unwrap_or(&NOTHING)
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut Log)) {
        self.take(at);
        if let Some(log) = self.taken.get_mut(&at) {
            change(log);
        }
        self.changed.push(at);
    }

    fn capped_until(&self, at: usize) -> Option<TsMs> {
        capped_until(self.policy, &self.names.all[at], self.log(at), self.now)
    }

    fn sibling(&self, _at: usize, key: &str) -> Option<usize> {
        self.names.numbers.get(key).copied()
    }
}

/// A reservation to be made of one ad of a user.
#[derive(Debug, Clone, Copy)]
pub struct ReservationRequest<'a> {
    /// The user.
    pub user: &'a UserId<'a>,
    /// The ad.
    pub da: &'a DaId<'a>,
    /// Besides the ad's own.
    pub keys: &'a [CapKey<'a>],
    /// The kind of the confirming event.
    pub kind: Kind,
    /// The id of the confirming event.
    pub id: &'a EventId<'a>,
    /// How long the reservation counts.
    pub term: ReservationTerm,
}

impl Ledger {
    /// Numbers the keys of an ad, its own first, and copies the user's logs of them.
    fn working_set<'l>(
        &'l mut self,
        policy: &'l Policy,
        user: &str,
        (da, keys): (&DaId<'_>, &[CapKey<'_>]),
        now: TsMs,
    ) -> (UserWorkingSet<'l>, Vec<usize>, Option<TsMs>) {
        let da = CapKey::of_da(da);
        let numbers: Vec<usize> = std::iter::once(&da).chain(keys).map(|key| self.names.number(key.as_str())).collect();
        let User { logs, erased } = self.users.entry_ref(user).or_default();
        let (taken, changed) = (HashMap::new(), Vec::new());
        let mut working_set = UserWorkingSet { policy, now, names: &self.names, stored: logs, taken, changed };
        numbers.iter().for_each(|&number| working_set.take(number));
        (working_set, numbers, *erased)
    }

    /// Counts an event under the time `ts`, which [`super::admit`] gave.
    pub fn count(&mut self, policy: &Policy, event: &Event<'_>, ts: TsMs, now: TsMs) -> Outcome {
        let (mut working_set, keys, erased) =
            self.working_set(policy, event.user.as_str(), (&event.da, &event.keys), now);
        let entry = Entry { ts, hash: event.hash() };
        let outcome = count(policy, &mut working_set, &keys, (event.kind, entry), erased, now);
        working_set.put_back();
        outcome
    }

    /// Reserves an ad, unless it is capped; says whether it did.
    pub fn reserve(&mut self, policy: &Policy, asked: &ReservationRequest<'_>, now: TsMs) -> bool {
        let (mut working_set, keys, _) = self.working_set(policy, asked.user.as_str(), (asked.da, asked.keys), now);
        let names: Vec<&str> = asked.keys.iter().map(CapKey::as_str).collect();
        let event = (asked.kind, event_hash(asked.da, asked.id));
        let reserved = reserve(policy, &mut working_set, &keys, &names, event, asked.term, now);
        working_set.put_back();
        reserved
    }

    /// Whether the logs of a reservation have room for its kind, and whether its event is counted already.
    pub fn may_reserve(&mut self, policy: &Policy, asked: &ReservationRequest<'_>, now: TsMs) -> (bool, bool) {
        let (working_set, keys, _) = self.working_set(policy, asked.user.as_str(), (asked.da, asked.keys), now);
        let event = (asked.kind, event_hash(asked.da, asked.id));
        (takes_kind(policy, &working_set, &keys, asked.kind), is_counted(policy, &working_set, keys[0], event, now))
    }

    /// Gives back what is reserved of an ad under an id; says how many reservations there were.
    pub fn release(
        &mut self,
        policy: &Policy,
        user: &UserId<'_>,
        da: &DaId<'_>,
        (kind, id): (Kind, &EventId<'_>),
        now: TsMs,
    ) -> usize {
        let (mut working_set, keys, _) = self.working_set(policy, user.as_str(), (da, &[]), now);
        let released = release(&mut working_set, keys[0], kind, event_hash(da, id));
        working_set.put_back();
        released
    }

    /// Forgets a user, and every event of theirs with a time up to `until`.
    pub fn erase(&mut self, user: &str, until: TsMs) {
        *self.users.entry_ref(user).or_default() = User { logs: HashMap::new(), erased: Some(until) };
    }

    /// The log of a key as judgements see it: empty where there is none or it is void.
    pub fn log(&self, policy: &Policy, user: &str, key: &str, now: TsMs) -> Log {
        let number = self.names.numbers.get(key);
        let log = number.and_then(|number| self.users.get(user)?.logs.get(number));
        let mut log = log.cloned().unwrap_or_default();
        policy.refresh(key, &mut log, now);
        log
    }

    /// Judges an ad of a user, over its own key and `keys`.
    pub fn judge(
        &self,
        policy: &Policy,
        user: &str,
        da: &CapKey<'_>,
        keys: &[CapKey<'_>],
        question: Question,
        now: TsMs,
    ) -> Verdict {
        self.with_logs(policy, user, da, keys, now, |keys| judge(policy, keys, question, now, |_| {}))
    }

    /// Explains what [`Ledger::judge`] answers.
    pub fn why(
        &self,
        policy: &Policy,
        user: &str,
        da: &CapKey<'_>,
        keys: &[CapKey<'_>],
        question: Question,
        now: TsMs,
    ) -> Why {
        self.with_logs(policy, user, da, keys, now, |keys| why(policy, keys, question, now))
    }

    fn with_logs<T>(
        &self,
        policy: &Policy,
        user: &str,
        da: &CapKey<'_>,
        keys: &[CapKey<'_>],
        now: TsMs,
        look: impl FnOnce(&[KeyLog<'_>]) -> T,
    ) -> T {
        let keys: Vec<&CapKey<'_>> = std::iter::once(da).chain(keys).collect();
        let logs: Vec<Log> = keys.iter().map(|key| self.log(policy, user, key.as_str(), now)).collect();
        let keys: Vec<_> = keys.iter().zip(&logs).map(|(key, log)| KeyLog { key: key.as_str(), log }).collect();
        look(&keys)
    }
}
