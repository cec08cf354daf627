//! Calls of `/reserve` and `/release` in a turn.

use super::command::{Calls, Command, Reply, TurnState};
use super::metrics;
use super::refusal::Refusal;
use super::working_set::WorkingSet;
use crate::engine::{
    Applied, KeyLog, Logs, Question, ReservationTerm, bind, has_room, is_counted, release, reserve, takes_kind,
};
use crate::model::{
    Candidate, CapKey, DaId, EventId, Kind, MAX_ROW_BYTES, Refused, Reservation, ReserveAnswer, Reserved, TsMs, UserId,
    event_hash,
};
use crate::store::{Commit, ReservationRow, RowKey, RowKeys};
use hashbrown::HashSet;

/// How long after the reservation has expired a repetition gets its answer, in ms.
const ANSWER_KEPT_MS: u64 = 3_600_000;
/// More than an answer has for a candidate besides its ids: members, a rule's id of 64 bytes, an instant, commas.
const ANSWER_OF_ONE: usize = 192;
/// How long if the reservation counts for good, in ms.
const ANSWER_KEPT_FOR_GOOD_MS: u64 = 24 * 3_600_000;

/// Reserve the first `want` candidates that are not capped.
#[derive(Debug, Clone)]
pub struct Reserve<'a> {
    /// The user.
    pub user: UserId<'a>,
    /// The ads, in the order of preference.
    pub candidates: Vec<Candidate<'a>>,
    /// How many to reserve.
    pub want: usize,
    /// How long reservations count, in ms; `None` is for good.
    pub ttl_ms: Option<u64>,
    /// The id of the call and of the confirming events.
    pub id: EventId<'a>,
    /// Hash of the body as a JSON value: the same id with another body is another call. `None` if the id was made up:
    /// such a call cannot be repeated, and its answer is not stored.
    pub body_hash: Option<u128>,
    /// The kind of the confirming events.
    pub kind: Kind,
}

impl Reserve<'_> {
    /// Whether the row of its answer fits the limit of a row, whatever the results of its candidates.
    pub(super) fn fits_a_row(&self) -> bool {
        let mut bytes = ANSWER_OF_ONE;
        for candidate in &self.candidates {
            let da = escaped_len(candidate.da.as_str());
            let key = candidate.keys.iter().map(|key| escaped_len(key.as_str())).max().unwrap_or(0);
            // The ad, and what capped it: itself or another key. If it is reserved, the ad again, for /release.
            bytes += ANSWER_OF_ONE + da + key.max(da);
        }
        bytes <= MAX_ROW_BYTES
    }
}

/// The length of a text in JSON.
fn escaped_len(text: &str) -> usize {
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// A call on its way to a writer.
pub(super) struct ReserveCall {
    /// The candidates' row keys, one candidate after another, its own key first.
    pub keys: RowKeys,
    pub candidates: Vec<Candidate<'static>>,
    want: usize,
    ttl_ms: Option<u64>,
    id: EventId<'static>,
    /// Its row in `reservations`.
    pub row_key: Vec<u8>,
    body_hash: Option<u128>,
    kind: Kind,
    reply: Reply<ReserveOutcome>,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveOutcome {
    /// The answer in JSON, of this call or of the first call with the id.
    Answer(Vec<u8>),
    /// The id is known, with another body.
    IdReused,
    /// A log has no room for this many reservations.
    NoRoom,
    /// A log has the maximum number of kinds, and not this one.
    TooManyKinds,
    /// The answer could exceed the limit of a row.
    TooLong,
}

/// Gives back what is reserved under an id.
pub(super) struct ReleaseCall {
    pub row_key: Vec<u8>,
    pub user: UserId<'static>,
    pub id: EventId<'static>,
    /// Only of this ad.
    pub da: Option<DaId<'static>>,
    pub reply: Reply<usize>,
}

/// The row key of a call in `reservations`: like that of a log, with the id in place of the key.
pub(super) fn call_row(user: &UserId<'_>, id: &EventId<'_>) -> Vec<u8> {
    let mut keys = RowKeys::default();
    keys.push_id(user.as_str(), id.as_str());
    keys.get(0).to_vec()
}

impl ReserveCall {
    pub(super) fn new(call: Reserve<'_>, reply: Reply<ReserveOutcome>) -> Self {
        let mut keys = RowKeys::default();
        let user = call.user.as_str();
        for candidate in &call.candidates {
            keys.push_da(user, candidate.da.as_str());
            candidate.keys.iter().for_each(|key| keys.push(user, key.as_str()));
        }
        Self {
            keys,
            row_key: call_row(&call.user, &call.id),
            candidates: call.candidates.into_iter().map(Candidate::into_owned).collect(),
            want: call.want,
            ttl_ms: call.ttl_ms,
            id: call.id.into_owned(),
            body_hash: call.body_hash,
            kind: call.kind,
            reply,
        }
    }

    /// The hashes of the confirming events.
    fn event_hashes(&self) -> impl Iterator<Item = u64> {
        self.candidates.iter().map(|candidate| event_hash(&candidate.da, &self.id))
    }

    /// Whether every log has room for what may be reserved in it.
    fn has_room(&self, slots: &[u32], set: &WorkingSet<'_>) -> bool {
        // With the bytes of the other keys, which the ad's own log records.
        let mut named: Vec<(u32, usize)> = slots.iter().map(|&slot| (slot, 0)).collect();
        for (candidate, first) in self.candidates.iter().zip(self.firsts()) {
            named[first].1 = Reservation::key_bytes(candidate.keys.iter().map(CapKey::as_str));
        }
        named.sort_unstable();
        named.chunk_by(|a, b| a.0 == b.0).all(|same| {
            let (more, longest) = (same.len().min(self.want), same[same.len() - 1].1);
            has_room(set, same[0].0, more, more * longest)
        })
    }

    /// For each candidate, the index of its first key, the ad's own.
    fn firsts(&self) -> impl Iterator<Item = usize> {
        self.candidates.iter().scan(0, |next, candidate| {
            let first = *next;
            *next += 1 + candidate.keys.len();
            Some(first)
        })
    }
}

impl ReleaseCall {
    /// The hashes of the events that would confirm what is reserved under the id, if that is known.
    fn event_hashes(&self, calls: &Calls) -> impl Iterator<Item = u64> {
        let das = calls.get(&self.row_key).map_or(&[][..], |known| &known.das);
        das.iter().filter_map(|da| Some(event_hash(&DaId::new(da.as_str()).ok()?, &self.id)))
    }
}

impl Command for ReserveCall {
    type Output = ReserveOutcome;

    fn into_reply(self) -> Reply<ReserveOutcome> {
        self.reply
    }

    fn weight(&self) -> usize {
        1 + self.candidates.len()
    }

    fn row_count(&self) -> usize {
        self.keys.len()
    }

    fn bytes(&self) -> usize {
        2 * self.keys.bytes()
    }

    fn call_row(&self) -> Option<&[u8]> {
        Some(&self.row_key)
    }

    fn gather<'b>(&'b self, _calls: &Calls, set: &mut WorkingSet<'b>, slots: &mut Vec<u32>) {
        slots.extend(self.keys.iter().map(|row_key| set.take(row_key)));
    }

    fn hashes(&self, _calls: &Calls, hashes: &mut HashSet<u64>) {
        hashes.extend(self.event_hashes());
    }

    fn run(&self, slots: &[u32], state: &mut TurnState<'_, '_, '_>) {
        if state.set.is_unreadable(&self.row_key) {
            self.reply.set_refused(Refusal::RowUnreadable);
            return;
        }
        let opt_outs = state.context.opt_outs;
        if opt_outs.has_row(&self.row_key) {
            let expires_at = self.ttl_ms.map(|ttl| state.context.now.saturating_add(ttl));
            let answer = opt_outs.reserve(self.id.as_str(), &self.candidates, self.want, expires_at);
            self.reply.set(ReserveOutcome::Answer(answer));
            return;
        }
        self.reply.set(run_reserve(self, slots, state.set, state.calls, state.commit));
    }
}

impl Command for ReleaseCall {
    type Output = usize;

    fn into_reply(self) -> Reply<usize> {
        self.reply
    }

    fn call_row(&self) -> Option<&[u8]> {
        Some(&self.row_key)
    }

    /// Reservations of an earlier call of this turn: that call has put them into the working set.
    fn gather<'b>(&'b self, calls: &Calls, set: &mut WorkingSet<'b>, _slots: &mut Vec<u32>) {
        let das = calls.get(&self.row_key).map_or(&[][..], |known| &known.das);
        for da in das.iter().filter_map(|da| DaId::new(da.as_str()).ok()) {
            set.take(RowKey::new(&self.user, &CapKey::of_da(&da)).as_bytes().to_vec());
        }
    }

    fn hashes(&self, calls: &Calls, hashes: &mut HashSet<u64>) {
        hashes.extend(self.event_hashes(calls));
    }

    fn run(&self, _slots: &[u32], state: &mut TurnState<'_, '_, '_>) {
        if state.set.is_unreadable(&self.row_key) {
            self.reply.set_refused(Refusal::RowUnreadable);
            return;
        }
        self.reply.set(run_release(self, state.set, state.calls));
    }
}

/// Runs a call over its candidates; `slots` are those of its keys. Changes go into the working set, the answer into
/// `calls` and `turn`.
pub(super) fn run_reserve(
    call: &ReserveCall,
    slots: &[u32],
    set: &mut WorkingSet<'_>,
    calls: &mut Calls,
    commit: &mut Commit<'_>,
) -> ReserveOutcome {
    if let Some(known) = calls.get(&call.row_key) {
        let same = Some(known.body_hash) == call.body_hash;
        return if same { ReserveOutcome::Answer(known.answer.clone()) } else { ReserveOutcome::IdReused };
    }
    if call.ttl_ms.is_some() && !call.has_room(slots, set) {
        return ReserveOutcome::NoRoom;
    }
    if !takes_kind(set.policy(), set, slots, call.kind) {
        return ReserveOutcome::TooManyKinds;
    }
    let now = set.now();
    let mut counted = Vec::with_capacity(call.candidates.len());
    for (candidate, first) in call.candidates.iter().zip(call.firsts()) {
        let event = (call.kind, event_hash(&candidate.da, &call.id));
        counted.push(is_counted(set.policy(), set, slots[first], event, now));
    }
    let expires_at = call.ttl_ms.map(|ttl| now.saturating_add(ttl));
    let kept_until = match expires_at {
        Some(expires_at) => expires_at.saturating_add(ANSWER_KEPT_MS),
        None => now.saturating_add(ANSWER_KEPT_FOR_GOOD_MS),
    };
    let mut answer = ReserveAnswer { id: call.id.as_str().to_owned(), reserved: Vec::new(), refused: Vec::new() };
    for ((candidate, first), is_counted) in call.candidates.iter().zip(call.firsts()).zip(counted) {
        if answer.reserved.len() == call.want {
            break;
        }
        let slots = &slots[first..=first + candidate.keys.len()];
        try_candidate(call, (candidate, is_counted), slots, expires_at, set, &mut answer);
    }
    metrics::reservations("reserved", answer.reserved.len());
    metrics::reservations("refused", answer.refused.len());
    // Serializing plain structs to memory cannot fail.
    let told = serde_json::to_vec(&answer).unwrap_or_default();
    let can_be_released = call.ttl_ms.is_some() && !answer.reserved.is_empty();
    if call.body_hash.is_some() || can_be_released {
        let row = ReservationRow {
            kept_until,
            body_hash: call.body_hash.unwrap_or_default(),
            kind: call.kind,
            das: answer.reserved.into_iter().map(|reserved| reserved.da).collect(),
            answer: call.body_hash.map_or_else(Vec::new, |_| told.clone()),
        };
        commit.put_reservation(&call.row_key, &row);
        calls.insert(call.row_key.clone(), row);
    }
    ReserveOutcome::Answer(told)
}

/// The answer to a call for a user that means nobody: such a user has seen nothing, and nothing is stored.
pub(super) fn reserve_for_nobody(call: &Reserve<'_>, now: TsMs) -> Vec<u8> {
    let expires_at = call.ttl_ms.map(|ttl| now.saturating_add(ttl));
    let taken = call.candidates.iter().take(call.want);
    let reserved = taken.map(|candidate| Reserved { da: candidate.da.as_str().to_owned(), expires_at }).collect();
    let answer = ReserveAnswer { id: call.id.as_str().to_owned(), reserved, refused: Vec::new() };
    // Serializing plain structs to memory cannot fail.
    serde_json::to_vec(&answer).unwrap_or_default()
}

fn try_candidate(
    call: &ReserveCall,
    (candidate, is_counted): (&Candidate<'_>, bool),
    slots: &[u32],
    expires_at: Option<TsMs>,
    set: &mut WorkingSet<'_>,
    answer: &mut ReserveAnswer,
) {
    let (policy, now) = (set.policy(), set.now());
    let own = CapKey::of_da(&candidate.da);
    let names: Vec<&str> = candidate.keys.iter().map(CapKey::as_str).collect();
    let keys: Vec<KeyLog<'_>> = std::iter::once(own.as_str())
        .chain(names.iter().copied())
        .zip(slots)
        .map(|(key, &at)| KeyLog { key, log: set.log(at) })
        .collect();
    let bound = bind(policy, &keys, Question::default(), now, |_, rule, applied| {
        if let Applied::Shadow(shadow) = applied
            && shadow.would_cap()
        {
            metrics::would_cap(&rule.id);
        }
    });
    if let Some(bound) = bound
        && let Some(capped_until) = bound.tally.capped_until
    {
        let key = keys[bound.key].key.to_owned();
        let da = candidate.da.as_str().to_owned();
        answer.refused.push(Refused { da, rule: bound.rule.id.clone(), key, capped_until });
        return;
    }
    let da = candidate.da.as_str().to_owned();
    if is_counted {
        // The impression that would confirm it was counted already. It stays, and counts once.
        answer.reserved.push(Reserved { da, expires_at: None });
        return;
    }
    let event = (call.kind, event_hash(&candidate.da, &call.id));
    let term = expires_at.map_or(ReservationTerm::ForGood, ReservationTerm::Until);
    if reserve(policy, set, slots, &names, event, term, now) {
        answer.reserved.push(Reserved { da, expires_at });
    }
}

/// Gives back what is reserved under an id. Returns how many candidates it released.
pub(super) fn run_release(call: &ReleaseCall, set: &mut WorkingSet<'_>, calls: &Calls) -> usize {
    let Some(known) = calls.get(&call.row_key) else { return 0 };
    let mut das: Vec<&str> = known.das.iter().map(String::as_str).collect();
    das.sort_unstable();
    das.dedup();
    let mut released = 0;
    for da in das.into_iter().filter(|da| call.da.as_ref().is_none_or(|only| only.as_str() == *da)) {
        if let Ok(da) = DaId::new(da)
            && let Some(at) = set.find(&call.user, &CapKey::of_da(&da))
        {
            released += release(set, at, known.kind, event_hash(&da, &call.id));
        }
    }
    metrics::reservations("released", released);
    released
}
