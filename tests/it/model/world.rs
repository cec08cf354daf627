//! Runs a stream through the engine and the oracle at once and compares all that can be seen of both.

use crate::model::calendar;
use crate::model::caps::Caps;
use crate::model::oracle::{Answer, Asked, Oracle, Sent, Settings, kept};
use crate::model::stream::{
    Anchor, DAS, Distance, EventWords, KEYS, KINDS, Moment, Op, ReadWords, ReserveWords, Scenario, USERS,
};
use crate::model::tell::{Story, told};
use freqcap::engine::{
    Ledger, Outcome, Policy, Question, ReservationRequest, ReservationTerm, TsInFuture, admit, capped_until, user_cap,
};
use freqcap::model::{CapKey, DaId, Entry, Event, EventId, Kind, TsMs, UserId, Verdict, Why, WhyCode, Window};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// What the two disagree about.
pub type Checked = Result<(), String>;

/// Engine and oracle with the same past.
pub struct World<'s> {
    scenario: &'s Scenario,
    settings: Settings,
    policy: Policy,
    ledger: Ledger,
    oracle: Oracle,
    caps: Caps,
    now: TsMs,
    /// Every event as it was sent, and the time it was taken under or refused for.
    sent: Vec<(Sent, TsMs)>,
    /// The event that each candidate reserved waits for, and when it lapses.
    reserved: Vec<(Sent, TsMs)>,
    /// Whose hash is whose: of an event's ad and id.
    hashes: BTreeMap<u64, Option<(&'static str, &'static str)>>,
    story: Story,
}

impl<'s> World<'s> {
    /// Runs the whole stream, up to where the two disagree.
    pub fn run(scenario: &'s Scenario, story: Story) -> (Checked, Story) {
        let settings = scenario.settings(0);
        let mut world = Self {
            policy: settings.policy(),
            settings,
            scenario,
            ledger: Ledger::default(),
            oracle: Oracle::default(),
            caps: Caps::default(),
            now: scenario.start,
            sent: Vec::new(),
            reserved: Vec::new(),
            hashes: BTreeMap::from([(0, None)]),
            story,
        };
        world.story.settings(&world.settings, &world.policy);
        let checked = scenario.ops.iter().try_for_each(|op| world.step(op));
        (checked, world.story)
    }

    fn step(&mut self, op: &Op) -> Checked {
        match op {
            Op::Event(words) => self.post(self.event(words))?,
            Op::Retry(nth) => match self.earlier(*nth) {
                Some((sent, _)) => self.post(sent.clone())?,
                None => return Ok(()),
            },
            Op::Read(words) => self.read(words)?,
            Op::Reserve(words) => self.reserve(words)?,
            Op::Confirm(nth, ts, keys) => match self.earlier_reservation(*nth) {
                Some((mut event, _)) => {
                    event.ts = ts.as_ref().map(|moment| self.resolve(moment));
                    event.keys = keys.clone().unwrap_or(event.keys);
                    self.post(event)?;
                }
                None => return Ok(()),
            },
            Op::Release(nth) => match self.earlier_reservation(*nth) {
                Some((event, _)) => self.release(&event)?,
                None => return Ok(()),
            },
            Op::Erase(user) => self.erase(user)?,
            Op::Clock(moment) => self.set_clock(self.resolve(moment).max(self.now)),
            Op::StepBack(moment) => self.set_clock(self.resolve(moment).min(self.now)),
            Op::Rules(set) => {
                self.settings = self.scenario.settings(usize::from(*set));
                self.policy = self.settings.policy();
                self.story.settings(&self.settings, &self.policy);
                // What is held of caps is brought into line with the rules, key by key.
                all_keys().try_for_each(|(user, key)| self.plan(user, &key, false))?;
            }
            Op::Fire(most) => {
                self.story.line(|| format!("at most {most} timers fire"));
                self.fire(usize::from(*most))?;
            }
            Op::Settle => self.settle()?,
        }
        self.compare_logs()
    }

    fn set_clock(&mut self, now: TsMs) {
        self.now = now;
        self.story.line(|| format!("now is {}", told(now)));
    }

    // --- What the words of a stream mean.

    fn event(&self, words: &EventWords) -> Sent {
        Sent {
            user: words.user,
            da: words.da,
            kind: Kind::new(words.kind).unwrap(),
            ts: words.ts.as_ref().map(|moment| self.resolve(moment)),
            id: words.id,
            keys: words.keys.clone(),
        }
    }

    /// An earlier event, counted from the last, going round.
    fn earlier(&self, nth: u8) -> Option<&(Sent, TsMs)> {
        let count = self.sent.len();
        self.sent.get(count.wrapping_sub(1).wrapping_sub(usize::from(nth) % count.max(1)))
    }

    fn earlier_reservation(&self, nth: u8) -> Option<(Sent, TsMs)> {
        let count = self.reserved.len();
        self.reserved.get(count.wrapping_sub(1).wrapping_sub(usize::from(nth) % count.max(1))).cloned()
    }

    fn resolve(&self, moment: &Moment) -> TsMs {
        let anchor = match moment.anchor {
            Anchor::Now => self.now,
            Anchor::Expiry(nth) => self.earlier_reservation(nth).map_or(self.now, |(_, expires_at)| expires_at),
            Anchor::Event(nth) => self.earlier(nth).map_or(self.now, |(_, ts)| *ts),
            Anchor::Period { rule, end } => match self.settings.rules.get(usize::from(rule)).map(|rule| &rule.window) {
                Some(Window::Calendar(window)) => {
                    let (first, after) = calendar::period(window.unit(), window.zone(), self.now);
                    if end { after } else { first }
                }
                _ => self.now,
            },
        };
        let distance = match moment.distance {
            Distance::Units(count) => u64::from(count) * self.scenario.unit_ms,
            Distance::Window(rule) => match self.settings.rules.get(usize::from(rule)).map(|rule| &rule.window) {
                Some(Window::Rolling(span)) => span.as_millis(),
                Some(Window::Lifetime) => self.settings.lifetime_retention_ms,
                _ => 86_400_000,
            },
            Distance::Retention => self.settings.retention_in_force(),
            Distance::LifetimeRetention => self.settings.lifetime_retention_ms,
            Distance::MaxSkew => self.settings.max_skew_ms,
        };
        let moved = if moment.before { anchor.0 - distance } else { anchor.0 + distance };
        TsMs(moved.saturating_add_signed(i64::from(moment.jitter_ms)))
    }

    // --- Events.

    fn post(&mut self, sent: Sent) -> Checked {
        let now = self.now;
        let wanted = self.oracle.post(&self.settings, &sent, now);
        self.story.line(|| format!("{} -> {wanted:?}", told(&sent)));
        let event = engine_event(&sent);
        let answer = match admit(&self.policy, event.ts, now, now) {
            Err(TsInFuture { ahead_ms }) => {
                let late_by = sent.ts.map(|ts| ts.0 - now.0);
                same("how far ahead the event is", &Some(ahead_ms), &late_by)?;
                Answer::TsInFuture
            }
            Ok(ts) => match self.ledger.count(&self.policy, &event, ts, now) {
                Outcome::Counted => Answer::Counted,
                Outcome::Duplicate { .. } => Answer::Duplicate,
                Outcome::Late => Answer::Late,
                Outcome::Erased => Answer::Erased,
                Outcome::TooManyKinds => Answer::TooManyKinds,
            },
        };
        same("the answer", &answer, &wanted)?;
        if answer == Answer::Counted {
            self.plan_all(sent.user)?;
        }
        // Logs tell events apart by a hash: no two ads share one, however alike their ids read.
        let named = sent.id.map(|id| (sent.da, id));
        same("whose hash the event has", self.hashes.entry(event.hash()).or_insert(named), &named)?;
        let ts = sent.ts.unwrap_or(now);
        self.sent.push((sent, ts));
        Ok(())
    }

    // --- Reservations and erasure.

    fn reserve(&mut self, words: &ReserveWords) -> Checked {
        self.story.line(|| told(words));
        let (now, mut left) = (self.now, words.want);
        let ttl_ms = words.ttl.map(|tenths| u64::from(tenths) * self.scenario.unit_ms / 10);
        let kind = Kind::new(words.kind).unwrap();
        let event = |(da, keys): &(&'static str, Vec<&'static str>)| Sent {
            user: words.user,
            da,
            kind,
            ts: Some(now),
            id: Some(words.id),
            keys: keys.clone(),
        };
        let term = ttl_ms.map_or(ReservationTerm::ForGood, |ttl| ReservationTerm::Until(TsMs(now.0 + ttl)));
        // What is counted already, and whether there is room for the kind, is asked before anything is reserved.
        let (mut counted, mut has_room) = (Vec::new(), true);
        for event in words.candidates.iter().map(event) {
            let wanted = (
                self.oracle.takes_kind(&self.settings, &event, now),
                self.oracle.is_counted(&self.settings, &event, now, now),
            );
            let asked = engine_event(&event);
            let found = self.ledger.may_reserve(&self.policy, &reservation(&asked, term), now);
            same("whether there is room for the kind, and it is counted already", &found, &wanted)?;
            has_room &= wanted.0;
            counted.push(wanted.1);
        }
        if !has_room {
            self.story.line(|| "  a log has as many kinds as it may".to_owned());
            return Ok(());
        }
        for (event, is_counted) in words.candidates.iter().map(event).zip(counted) {
            if left == 0 {
                break;
            }
            let wanted = self.oracle.reserve(&self.settings, &event, ttl_ms, is_counted, now);
            let asked = engine_event(&event);
            let reservation = reservation(&asked, term);
            let granted = match is_counted {
                true => {
                    let ask = Asked { user: words.user, da: event.da, keys: event.keys.clone(), kind: None, at: None };
                    !self.ask(&ask).capped
                }
                false => self.ledger.reserve(&self.policy, &reservation, now),
            };
            let told = if is_counted { "counted already" } else { "reserved" };
            self.story.line(|| format!("  {} {:?}: {}", event.da, event.keys, if wanted { told } else { "refused" }));
            same("whether it is reserved", &granted, &wanted)?;
            self.hashes.entry(asked.hash()).or_insert(Some((event.da, words.id)));
            if wanted {
                left -= 1;
                self.plan_all(words.user)?;
                self.reserved.push((event, TsMs(now.0 + ttl_ms.unwrap_or(0))));
            }
        }
        Ok(())
    }

    fn release(&mut self, event: &Sent) -> Checked {
        let wanted = self.oracle.release(&self.settings, event, self.now);
        self.story.line(|| format!("what waits for {} is released: {wanted}", told(event)));
        let asked = engine_event(event);
        let waits = (event.kind, asked.id.as_ref().unwrap());
        let released = self.ledger.release(&self.policy, &asked.user, &asked.da, waits, self.now);
        same("how many are released", &released, &wanted)?;
        self.plan_all(event.user)
    }

    fn erase(&mut self, user: &'static str) -> Checked {
        self.story.line(|| format!("{user} is erased"));
        self.oracle.erase(user, self.now);
        self.ledger.erase(user, self.now);
        self.plan_all(user)
    }

    // --- Reads.

    fn read(&mut self, words: &ReadWords) -> Checked {
        let at = words.at.as_ref().map(|moment| self.resolve(moment));
        let kind = words.kind.map(|kind| Kind::new(kind).unwrap());
        let asked = Asked { user: words.user, da: words.da, keys: words.keys.clone(), kind, at };
        self.story.line(|| told(&asked));
        let verdict = self.compare_verdicts(&asked)?;
        let why = self.explain(&asked, &verdict)?;
        // A read as of now, while nothing lies ahead of it: the cap ends neither sooner nor later than it says.
        let keys = std::iter::once(format!("da:{}", asked.da)).chain(asked.keys.iter().map(|&key| key.to_owned()));
        let newest = keys.flat_map(|key| self.oracle.log(&self.settings, asked.user, &key, self.now)).map(|it| it.ts);
        let all_past = newest.max() <= Some(self.now);
        if let (Some(until), None, true) = (verdict.capped_until, asked.at, all_past) {
            let before = Asked { at: Some(TsMs(until.0 - 1)), ..asked.clone() };
            let then = Asked { at: Some(until), ..asked.clone() };
            same("whether it is capped 1 ms before capped_until", &self.ask(&before).capped, &true)?;
            same("whether it is capped at capped_until", &self.ask(&then).capped, &false)?;
        }
        if let (Some(next), None, true) = (why.next, asked.at, all_past) {
            let count = |at| {
                let then = self.ask(&Asked { at: Some(at), ..asked.clone() });
                let counted = then
                    .rules
                    .into_iter()
                    .find(|it| Some(&it.rule) == verdict.rule.as_ref() && Some(&it.key) == verdict.key.as_ref());
                counted.map(|it| it.count)
            };
            same("the count at `next`", &count(next.at), &Some(next.count.min(self.counted_at_most(&verdict))))?;
            same("the count 1 ms before `next`", &count(TsMs(next.at.0 - 1)), &Some(verdict.count))?;
        }
        Ok(())
    }

    /// What a count over the window of a verdict is at most.
    fn counted_at_most(&self, verdict: &Verdict) -> u64 {
        let lifetime = matches!(verdict.window, Some(Window::Lifetime));
        if lifetime { u64::MAX } else { self.settings.history_limit as u64 }
    }

    /// The explanation lists what the verdict counts, and the cap ends when enough of it has left.
    fn explain(&self, asked: &Asked, verdict: &Verdict) -> Result<Why, String> {
        let da = CapKey::of_da(&DaId::new(asked.da).unwrap());
        let keys: Vec<_> = asked.keys.iter().map(|&key| CapKey::extra(key).unwrap()).collect();
        let question = Question { kind: asked.kind, at: asked.at, explain: true };
        let why = self.ledger.why(&self.policy, asked.user, &da, &keys, question, self.now);
        same("whether the explanation says capped", &(why.code == WhyCode::Capped), &verdict.capped)?;
        let Some(limit) = verdict.limit else { return Ok(why) };
        let listed = why.events.len() as u64 + why.events_omitted;
        same("how much is explained", &listed.min(self.counted_at_most(verdict)), &verdict.count)?;
        if why.events_omitted == 0 && verdict.capped {
            let mut leaves: Vec<TsMs> = why.events.iter().map(|it| it.leaves_at).collect();
            leaves.sort();
            same("when enough has left", &Some(leaves[(listed - limit) as usize]), &verdict.capped_until)?;
        }
        same("how many are needed", &why.needed, &verdict.remaining.filter(|left| *left > 0))?;
        Ok(why)
    }

    fn compare_verdicts(&self, asked: &Asked) -> Result<Verdict, String> {
        let verdict = self.ask(asked);
        same(
            &format!("the verdict of {}", told(asked)),
            &verdict,
            &self.oracle.judge(&self.settings, asked, self.now),
        )?;
        Ok(verdict)
    }

    fn ask(&self, asked: &Asked) -> Verdict {
        let da = CapKey::of_da(&DaId::new(asked.da).unwrap());
        let keys: Vec<_> = asked.keys.iter().map(|&key| CapKey::extra(key).unwrap()).collect();
        let question = Question { kind: asked.kind, at: asked.at, explain: false };
        self.ledger.judge(&self.policy, asked.user, &da, &keys, question, self.now)
    }

    /// After every step: all that the logs term, and what they say of now.
    fn compare_logs(&self) -> Checked {
        for (user, key) in all_keys() {
            let log = self.ledger.log(&self.policy, user, &key, self.now);
            let wanted = self.oracle.log(&self.settings, user, &key, self.now);
            for kind in KINDS.map(|kind| Kind::new(kind).unwrap()) {
                let section = log.section(kind);
                let lifetime = wanted.iter().filter(|it| it.event.kind == kind).count() as u64;
                let what = |what| format!("{what} of {kind} in the log of {key} of {user}");
                same(&what("the lifetime count"), &section.map_or(0, |it| it.lifetime()), &lifetime)?;
                let entries: Vec<Entry> = section.map_or(Vec::new(), |it| it.entries.to_vec());
                let kept: Vec<Entry> = kept(&self.settings, wanted, kind)
                    .iter()
                    .map(|it| Entry { ts: it.ts, hash: engine_event(&it.event).hash() })
                    .collect();
                same(&what("what is kept"), &entries, &kept)?;
                let held =
                    section.map_or(Vec::new(), |it| it.reservations.iter().map(|it| (it.ts, it.expires_at)).collect());
                let reserved = self.oracle.held(user, &key, kind, self.now);
                let reserved: Vec<(TsMs, TsMs)> = reserved.iter().map(|it| (it.ts, it.expires_at)).collect();
                same(&what("what is reserved"), &held, &reserved)?;
            }
            let cap = self.oracle.user_cap(&self.settings, user, &key, self.now);
            let until = capped_until(&self.policy, &key, &log, self.now);
            same(&format!("capped_until of {key} of {user}"), &until, &cap.as_ref().map(|cap| cap.capped_until))?;
            let own = user_cap(&self.policy, &key, &log, self.now);
            same(&format!("the cap of {key} of {user}"), &own, &cap)?;
        }
        Ok(())
    }

    // --- What is held of caps, and its timers.

    /// Brings what is held of the caps of a user in line, as a turn does for the logs that it changed.
    fn plan_all(&mut self, user: &'static str) -> Checked {
        all_keys().filter(|(of, _)| *of == user).try_for_each(|(user, key)| self.plan(user, &key, false))
    }

    fn plan(&mut self, user: &'static str, key: &str, fired: bool) -> Checked {
        let log = self.ledger.log(&self.policy, user, key, self.now);
        self.caps.plan(user, key, capped_until(&self.policy, key, &log, self.now), fired)
    }

    fn fire(&mut self, most: usize) -> Checked {
        for (due, user, key) in self.caps.take_due(self.now, most) {
            self.story.line(|| format!("  the timer of {key} of {user}, due at {}", told(due)));
            self.plan(user, &key, true)?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Checked {
        self.story.line(|| "all due timers fire".to_owned());
        self.fire(usize::MAX)?;
        same("timers due after all have fired", &self.caps.take_due(self.now, usize::MAX), &Vec::new())?;
        for (user, key) in all_keys() {
            let wanted = self.oracle.user_cap(&self.settings, user, &key, self.now).map(|cap| cap.capped_until);
            same(&format!("the caps row of {key} of {user}"), &self.caps.until(user, &key), &wanted)?;
            same(&format!("the mirror's {key} of {user}"), &self.caps.mirrored(user, &key), &wanted)?;
        }
        Ok(())
    }
}

/// Every key that a stream can name, of every user.
fn all_keys() -> impl Iterator<Item = (&'static str, String)> {
    USERS.into_iter().flat_map(|user| {
        let keys = DAS.iter().map(|da| format!("da:{da}")).chain(KEYS.map(str::to_owned));
        keys.map(move |key| (user, key))
    })
}

/// The event as the edge of the product hands it to the engine.
fn engine_event(sent: &Sent) -> Event<'static> {
    Event {
        user: UserId::new(sent.user).unwrap(),
        da: DaId::new(sent.da).unwrap(),
        ts: sent.ts,
        id: sent.id.map(|id| EventId::new(id).unwrap()),
        kind: sent.kind,
        keys: sent.keys.iter().map(|&key| CapKey::extra(key).unwrap()).collect(),
    }
}

/// The reservation that an event of an ad waits for.
fn reservation<'e>(event: &'e Event<'static>, term: ReservationTerm) -> ReservationRequest<'e> {
    ReservationRequest {
        user: &event.user,
        da: &event.da,
        keys: &event.keys,
        kind: event.kind,
        id: event.id.as_ref().unwrap(),
        term,
    }
}

fn same<T: PartialEq + Debug>(what: &str, engine: &T, oracle: &T) -> Checked {
    if engine == oracle {
        return Ok(());
    }
    Err(format!("they differ in {what}\n  engine: {}\n  oracle: {}", told(engine), told(oracle)))
}
