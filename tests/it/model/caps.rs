//! What is held of caps, kept by nothing but the engine's plans: the rows, their timers, and what a mirror was told.

use freqcap::engine::plan_cap;
use freqcap::model::{CapRow, TsMs};
use std::collections::{BTreeMap, BTreeSet};

type Who = (&'static str, String);

/// The rows `caps` and `due` in memory.
#[derive(Debug, Default)]
pub struct Caps {
    rows: BTreeMap<Who, CapRow>,
    due: BTreeSet<(TsMs, Who)>,
    mirror: BTreeMap<Who, TsMs>,
}

impl Caps {
    /// Brings a key's rows in line with its verdict, and checks that the plan fits the rows that there are.
    pub fn plan(&mut self, user: &'static str, key: &str, until: Option<TsMs>, fired: bool) -> Result<(), String> {
        let who = (user, key.to_owned());
        let held = self.rows.get(&who).copied();
        let plan = plan_cap(held, until, fired);
        let checks = [
            ("says whether the row changes", plan.row_changes == (plan.row != held)),
            ("removes a timer that is there", plan.timer_remove.is_none_or(|due| self.due.remove(&(due, who.clone())))),
            ("adds a timer that is not there", plan.timer_add.is_none_or(|due| self.due.insert((due, who.clone())))),
        ];
        match plan.row {
            Some(row) => self.rows.insert(who.clone(), row),
            None => self.rows.remove(&who),
        };
        if plan.notify {
            match plan.row {
                Some(row) => self.mirror.insert(who.clone(), row.until),
                None => self.mirror.remove(&who),
            };
        }
        let timers: Vec<TsMs> = self.due.iter().filter(|(_, of)| *of == who).map(|(due, _)| *due).collect();
        let wanted: Vec<TsMs> = plan.row.iter().map(|row| row.due).collect();
        let checks = checks.into_iter().chain([
            ("keeps one timer for a row", timers == wanted),
            ("fires in time", plan.row.is_none_or(|row| row.due <= row.until)),
            ("is of use to the mirror where it tells it", plan.notify == (held.map(|row| row.until) != until)),
        ]);
        let broken: Vec<&str> = checks.filter(|(_, holds)| !holds).map(|(what, _)| what).collect();
        if broken.is_empty() {
            return Ok(());
        }
        Err(format!("no plan that {}: {held:?}, until {until:?}, fired {fired} -> {plan:?}", broken.join(" and ")))
    }

    /// Takes the timers due at `now`, the earliest first, at most so many.
    pub fn take_due(&mut self, now: TsMs, most: usize) -> Vec<(TsMs, &'static str, String)> {
        let due: Vec<_> = self.due.iter().take_while(|(due, _)| *due <= now).take(most).cloned().collect();
        due.into_iter()
            .map(|timer| {
                self.due.remove(&timer);
                let (due, (user, key)) = timer;
                (due, user, key)
            })
            .collect()
    }

    /// Until when the row says that a key is capped.
    pub fn until(&self, user: &'static str, key: &str) -> Option<TsMs> {
        self.rows.get(&(user, key.to_owned())).map(|row| row.until)
    }

    /// Until when a mirror thinks so that hears only what it is told.
    pub fn mirrored(&self, user: &'static str, key: &str) -> Option<TsMs> {
        self.mirror.get(&(user, key.to_owned())).copied()
    }
}
