//! What must be written when a key becomes capped, stays so for longer, or ends: the `caps` row that the mirror
//! copies, its timer, and the note that it changed.

use crate::model::{CapPlan, CapRow, TsMs};

/// Plans the writes; how a new cap came about is added by whoever knows. `held` is the row as it is, `until` what the log says now, `fired` whether the row's timer has
/// just fired and is gone.
pub fn plan_cap(held: Option<CapRow>, until: Option<TsMs>, fired: bool) -> CapPlan {
    let was = held.map(|row| row.until);
    let Some(until) = until else {
        return CapPlan {
            row: None,
            row_changes: held.is_some(),
            timer_add: None,
            timer_remove: held.filter(|_| !fired).map(|row| row.due),
            notify: held.is_some(),
            was,
        };
    };
    let timer = held.filter(|_| !fired).map(|row| row.due);
    // A timer that fires before the cap ends asks the log and is set anew; one that would fire after must be moved.
    let keeps_timer = timer.is_some_and(|due| due <= until);
    let due = if keeps_timer { timer.unwrap_or(until) } else { until };
    let row = CapRow { until, due, began: held.and_then(|row| row.began) };
    CapPlan {
        row: Some(row),
        row_changes: held != Some(row),
        timer_add: (!keeps_timer).then_some(until),
        timer_remove: if keeps_timer { None } else { timer },
        notify: was != Some(until),
        was,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CapChange;

    fn row(until: u64, due: u64) -> CapRow {
        CapRow { until: TsMs(until), due: TsMs(due), began: None }
    }

    #[test]
    fn a_new_cap_gets_a_row_a_timer_and_is_notified_of() {
        let plan = plan_cap(None, Some(TsMs(9)), false);
        assert_eq!((plan.row, plan.timer_add, plan.notify), (Some(row(9, 9)), Some(TsMs(9)), true));
        assert_eq!(plan.change(), (CapChange::Capped, Some(TsMs(9))));
    }

    #[test]
    fn an_extended_cap_keeps_its_timer_until_that_fires() {
        let plan = plan_cap(Some(row(9, 9)), Some(TsMs(12)), false);
        assert_eq!((plan.row, plan.timer_add, plan.timer_remove, plan.notify), (Some(row(12, 9)), None, None, true));
        assert_eq!(plan.change(), (CapChange::Extended, Some(TsMs(12))));
        let fired = plan_cap(Some(row(12, 9)), Some(TsMs(12)), true);
        assert_eq!((fired.row, fired.timer_add, fired.notify), (Some(row(12, 12)), Some(TsMs(12)), false));
    }

    #[test]
    fn a_shortened_cap_moves_its_timer_forward() {
        let plan = plan_cap(Some(row(12, 12)), Some(TsMs(5)), false);
        assert_eq!((plan.timer_add, plan.timer_remove, plan.notify), (Some(TsMs(5)), Some(TsMs(12)), true));
        assert_eq!(plan.change(), (CapChange::Shortened, Some(TsMs(5))));
    }

    #[test]
    fn an_ended_cap_leaves_nothing() {
        let ended = plan_cap(Some(row(9, 9)), None, true);
        assert_eq!(ended, CapPlan { row_changes: true, notify: true, was: Some(TsMs(9)), ..CapPlan::default() });
        assert_eq!(ended.change(), (CapChange::Ended, None));
        assert_eq!(plan_cap(Some(row(9, 9)), None, false).timer_remove, Some(TsMs(9)));
        assert_eq!(plan_cap(None, None, false), CapPlan::default());
    }

    #[test]
    fn nothing_is_written_where_nothing_changed() {
        let plan = plan_cap(Some(row(9, 7)), Some(TsMs(9)), false);
        assert!(!plan.row_changes && !plan.notify && plan.timer_add.is_none() && plan.timer_remove.is_none());
    }
}
