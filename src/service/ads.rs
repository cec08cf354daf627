//! The catalogue: which keys an ad has besides its own, and how that is changed.

use super::Backfills;
use crate::api::{Ad, AdLines, AdsChanged};
use crate::clock::Clock;
use crate::model::DaId;
use crate::shard::{Catalogue, MAX_ADS, Precondition, Refusal, Router};
use crate::store::{AdChange, AdRow, AdsChange, AuditEntry, Backfill, ChangedBy, Store, StoreError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most ads whose held events may wait to be counted.
const BACKFILLS_MAX: usize = 100_000;

/// Reads and changes the catalogue. Cheap to clone.
#[derive(Clone)]
pub struct Ads {
    store: Arc<Store>,
    router: Router,
    clock: Clock,
    backfills: Backfills,
}

/// An ad with its version.
#[derive(Debug, Clone)]
pub struct AdView {
    /// The ad.
    pub da: String,
    /// Its keys and name.
    pub row: AdRow,
    /// How far the counting of held events under its keys is: shards done, and all. `None` where nobody asked for it.
    pub backfill: Option<(usize, usize)>,
}

impl AdView {
    /// Differs after every change.
    pub fn etag(&self) -> String {
        etag(&self.row)
    }
}

fn etag(row: &AdRow) -> String {
    format!("\"{}\"", row.revision)
}

/// Why the catalogue was not read or changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum AdsError {
    #[error("the catalogue has no ad {0:?}")]
    Unknown(String),
    #[error("the ad is not, or no longer, as the request expects it")]
    Precondition,
    #[error("the catalogue would have more than {MAX_ADS} ads, or more keys than there is room for")]
    TooMany,
    #[error("{BACKFILLS_MAX} ads wait already for their held events to be counted; try again later")]
    TooManyBackfills,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the thread that reads or changes the catalogue ended")]
    Gone,
}

impl Ads {
    pub(super) fn new(store: Arc<Store>, router: Router, clock: Clock, backfills: Backfills) -> Self {
        Self { store, router, clock, backfills }
    }

    /// Counts held events under new keys.
    pub fn backfills(&self) -> &Backfills {
        &self.backfills
    }

    fn catalogue(&self) -> &Catalogue {
        self.router.catalogue()
    }

    /// How many ads there are, and the bytes of memory that they take.
    pub fn figures(&self) -> (usize, usize) {
        (self.catalogue().len(), self.catalogue().memory())
    }

    /// Whether changes are taken now.
    pub fn accepts_changes(&self) -> Result<(), Refusal> {
        self.router.health().refusal().map_or(Ok(()), Err)
    }

    /// An ad.
    pub async fn get(&self, da: DaId<'static>) -> Result<AdView, AdsError> {
        self.blocking(move |ads| {
            let da = da.as_str().to_owned();
            match ads.store.ads().get(&da)? {
                Some(row) => ads.view(da, row),
                None => Err(AdsError::Unknown(da)),
            }
        })
        .await
    }

    /// Ads after one, all or those with a key, `max` at most; and whether there are more.
    pub async fn page(
        &self,
        key: Option<String>,
        after: Option<String>,
        max: usize,
    ) -> Result<(Vec<AdView>, bool), AdsError> {
        self.blocking(move |ads| {
            let mut page = ads.store.ads().page(key.as_deref(), after.as_deref(), max.saturating_add(1))?;
            let more = page.len() > max;
            page.truncate(max);
            Ok((page.into_iter().map(|(da, row)| AdView { da, row, backfill: None }).collect(), more))
        })
        .await
    }

    fn view(&self, da: String, row: AdRow) -> Result<AdView, AdsError> {
        let backfill = self.backfills.progress(&da)?;
        Ok(AdView { da, row, backfill })
    }

    /// Makes or changes an ad. Says whether it is new, once that is durable and in force for every later call. With `backfill`
    /// held events of it are counted under its keys in the background.
    pub async fn put(
        &self,
        key: Option<String>,
        ad: Ad,
        expect: Precondition,
        backfill: bool,
    ) -> Result<(bool, AdView), AdsError> {
        self.change(move |ads| {
            let da = ad.da.as_str().to_owned();
            let before = ads.store.ads().get(&da)?;
            check(&expect, before.as_ref())?;
            let after = AdRow { revision: ads.store.ads().revision()? + 1, keys: ad.keys, name: ad.name };
            let same = before.clone().filter(|before| is_same(before, &after));
            if let Some(row) = same.clone().filter(|_| !backfill) {
                return Ok((false, ads.view(da, row)?));
            }
            let (is_new, revision) = (before.is_none(), after.revision);
            // One that is like this already keeps its version.
            let after = same.unwrap_or(after);
            let by = ChangedBy { key, call: format!("PUT /ads/{da}") };
            let line = AuditEntry { by, before: before.as_ref().map_or(Value::Null, told), after: told(&after) };
            let begun = if backfill { Backfill::Begin } else { Backfill::None };
            let change = AdChange { da: da.clone(), before, after: Some(after.clone()), backfill: begun };
            ads.bring_into_force(revision, &[change], false, &line)?;
            Ok((is_new, ads.view(da, after)?))
        })
        .await
    }

    /// Removes an ad. What was counted under its keys stays.
    pub async fn delete(&self, key: Option<String>, da: DaId<'static>, expect: Precondition) -> Result<(), AdsError> {
        self.change(move |ads| {
            let da = da.as_str().to_owned();
            let Some(before) = ads.store.ads().get(&da)? else { return Err(AdsError::Unknown(da)) };
            check(&expect, Some(&before))?;
            let by = ChangedBy { key, call: format!("DELETE /ads/{da}") };
            let line = AuditEntry { by, before: told(&before), after: Value::Null };
            let revision = ads.store.ads().revision()? + 1;
            let change = AdChange { da, before: Some(before), after: None, backfill: Backfill::None };
            ads.bring_into_force(revision, &[change], false, &line)
        })
        .await
    }

    /// Makes or changes many ads, all at once; with `replace` all that no line names go.
    pub async fn put_many(
        &self,
        key: Option<String>,
        lines: AdLines,
        replace: bool,
        backfill: bool,
    ) -> Result<AdsChanged, AdsError> {
        self.change(move |ads| ads.put_lines(key, lines, replace, backfill)).await
    }

    fn put_lines(
        &self,
        key: Option<String>,
        lines: AdLines,
        replace: bool,
        backfill: bool,
    ) -> Result<AdsChanged, AdsError> {
        let AdLines { ads, rejected_ads, rejected, errors } = lines;
        let mut answer = AdsChanged { rejected, errors, ..AdsChanged::default() };
        // Of two lines of one ad the later counts.
        let ads: BTreeMap<String, Ad> = ads.into_iter().map(|ad| (ad.da.as_str().to_owned(), ad)).collect();
        let revision = self.store.ads().revision()? + 1;
        let mut changes = Vec::with_capacity(ads.len());
        let mut held = 0;
        for da in rejected_ads.into_iter().filter(|da| replace && !ads.contains_key(da)) {
            // It was named, so it is not left out.
            if let Some(row) = self.store.ads().get(&da)? {
                changes.push(AdChange { da, before: Some(row.clone()), after: Some(row), backfill: Backfill::Keep });
            }
        }
        changes.sort_by(|one, other| one.da.cmp(&other.da));
        changes.dedup_by(|one, other| one.da == other.da);
        held += changes.len();
        for (da, Ad { keys, name, .. }) in ads {
            let before = self.store.ads().get(&da)?;
            let mut after = AdRow { revision, keys, name };
            held += usize::from(before.is_some());
            match &before {
                None => answer.created += 1,
                Some(before) if is_same(before, &after) => {
                    answer.unchanged += 1;
                    after.revision = before.revision;
                    if !replace && !backfill {
                        continue;
                    }
                }
                Some(_) => answer.changed += 1,
            }
            let kept = if after.revision == revision { Backfill::None } else { Backfill::Keep };
            let backfill = if backfill { Backfill::Begin } else { kept };
            changes.push(AdChange { da, before, after: Some(after), backfill });
        }
        let count = self.catalogue().len();
        answer.removed = if replace { count.saturating_sub(held) } else { 0 };
        let AdsChanged { created, changed, removed, .. } = answer;
        if created + changed + removed == 0 && (!backfill || changes.is_empty()) {
            return Ok(answer);
        }
        let call = if replace { "PUT /ads?replace=true" } else { "PUT /ads" };
        let line = AuditEntry {
            by: ChangedBy { key, call: call.to_owned() },
            before: json!({"ads": count}),
            after: json!({"ads": count + created - removed, "created": created, "changed": changed, "removed": removed}),
        };
        self.bring_into_force(revision, &changes, replace, &line)?;
        Ok(answer)
    }

    /// First the store, then everything else: what is in force survives a crash.
    fn bring_into_force(
        &self,
        revision: u64,
        changes: &[AdChange],
        replace: bool,
        line: &AuditEntry,
    ) -> Result<(), AdsError> {
        let created = changes.iter().filter(|change| change.before.is_none()).count();
        let rest = if replace { 0 } else { self.catalogue().len() };
        let most = if replace { changes.len() } else { rest + created };
        if created > 0 && most > MAX_ADS {
            return Err(AdsError::TooMany);
        }
        let begun = changes.iter().filter(|change| change.backfill == Backfill::Begin).count();
        if begun > 0 && begun + self.store.ads().backfills()?.len() > BACKFILLS_MAX {
            return Err(AdsError::TooManyBackfills);
        }
        let prepared = self.catalogue().prepare(changes, replace).map_err(|_| AdsError::TooMany)?;
        let lines = std::slice::from_ref(line);
        self.store.ads().write(&AdsChange { revision, ads: changes, replace, at: self.clock.now(), lines })?;
        self.catalogue().put_in_force(prepared);
        // Only now: an event that comes while the held ones are counted is counted under the keys, too.
        if begun > 0 {
            self.backfills.wake();
        }
        Ok(())
    }

    /// Runs a change on a thread that may wait for the disk, after those before it.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Self) -> Result<T, AdsError> + Send + 'static,
    ) -> Result<T, AdsError> {
        let turn = self.backfills.changing.clone().lock_owned().await;
        self.blocking(move |ads| {
            // To the end, even if nobody waits for the answer any more.
            let changed = change(ads)?;
            drop(turn);
            ads.store.wait_for_bucket()?;
            Ok(changed)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, AdsError> + Send + 'static,
    ) -> Result<T, AdsError> {
        let ads = self.clone();
        tokio::task::spawn_blocking(move || work(&ads)).await.map_err(|_| AdsError::Gone)?
    }
}

fn is_same(one: &AdRow, other: &AdRow) -> bool {
    one.keys == other.keys && one.name == other.name
}

fn check(expect: &Precondition, held: Option<&AdRow>) -> Result<(), AdsError> {
    let holds = expect.holds(held.map(etag).as_deref());
    if holds { Ok(()) } else { Err(AdsError::Precondition) }
}

/// As the audit tells it.
fn told(row: &AdRow) -> Value {
    match &row.name {
        Some(name) => json!({"keys": row.keys, "name": name}),
        None => json!({"keys": row.keys}),
    }
}
