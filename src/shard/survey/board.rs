//! Who asked what, which pass is under way, and the answers that are kept.

use super::question::{Answer, Found, Question};
use crate::model::TsMs;
use hashbrown::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Questions of a kind that one pass answers.
const REACHES_MAX: usize = 1_000;
const TOPS_MAX: usize = 2;
const TRIALS_MAX: usize = 8;
/// Answers that are kept.
const ANSWERS_MAX: usize = 1_000;
/// Of those, the long ones.
const LONG_ANSWERS_MAX: usize = 8;
/// How long an answer that somebody was told to wait for is given, however old it is by then.
const AWAITED: Duration = Duration::from_secs(30);

/// Too many questions wait for the next pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many questions about all users wait")]
pub struct SurveyBusy;

/// How far a pass came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Shards that are done; 0 where the pass is yet to begin.
    pub done: usize,
    /// Shards in all.
    pub total: usize,
    /// About how long the rest takes.
    pub rest: Duration,
}

/// The number of a pass: each is higher than the one before.
type PassNumber = u64;

/// An answer that is kept.
struct Kept {
    answer: Arc<Answer>,
    pass: PassNumber,
    ended: Instant,
    /// Whether somebody was told to ask again for it.
    is_awaited: bool,
}

struct UnderWay {
    names: HashSet<String>,
    as_of: TsMs,
    begun: Instant,
    done: usize,
}

#[derive(Default)]
struct State {
    /// The pass that was begun last.
    pass: PassNumber,
    under_way: Option<UnderWay>,
    /// For the next pass, by name.
    next: HashMap<String, Question>,
    /// What somebody was told to ask again for.
    awaited: HashSet<String>,
    answers: HashMap<String, Kept>,
    ends: bool,
}

/// Shared by those who ask and the thread that answers.
pub(super) struct Board {
    state: Mutex<State>,
    /// A question came, or the end.
    woken: Condvar,
    /// A pass ended.
    passes: watch::Sender<PassNumber>,
    shards: usize,
}

/// What comes of a question.
pub(super) enum Entered {
    Answered(Arc<Answer>),
    /// This pass, or a later one, answers.
    Waits(PassNumber),
}

/// The questions of a pass.
pub(super) struct PassQuestions {
    pub names: Vec<String>,
    pub questions: Vec<Question>,
    pub as_of: TsMs,
    pub begun: Instant,
}

impl Board {
    pub(super) fn new(shards: usize) -> Self {
        let (state, woken) = (Mutex::default(), Condvar::new());
        Self { state, woken, passes: watch::Sender::new(0), shards }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shards in all.
    pub(super) fn shards(&self) -> usize {
        self.shards
    }

    /// Told of each pass that ends.
    pub(super) fn passes(&self) -> watch::Receiver<PassNumber> {
        self.passes.subscribe()
    }

    /// Finds an answer of a pass that began at `oldest` or later, or has the question answered by such a pass. Without
    /// `oldest` only a pass that is yet to begin will do, or one that somebody was told to wait for.
    pub(super) fn enter(&self, name: &str, question: Question, oldest: Option<TsMs>) -> Result<Entered, SurveyBusy> {
        let mut state = self.state();
        let is_fresh = |as_of: TsMs| oldest.is_some_and(|oldest| as_of >= oldest);
        if let Some(kept) = state.answers.get(name) {
            let is_awaited = kept.is_awaited && kept.ended.elapsed() < AWAITED;
            if is_awaited || is_fresh(kept.answer.as_of) {
                return Ok(Entered::Answered(kept.answer.clone()));
            }
        }
        let joins = |under_way: &UnderWay| {
            under_way.names.contains(name) && (is_fresh(under_way.as_of) || state.awaited.contains(name))
        };
        if state.under_way.as_ref().is_some_and(joins) {
            return Ok(Entered::Waits(state.pass));
        }
        let waits = Entered::Waits(state.pass + 1);
        if !state.next.contains_key(name) {
            let of_kind = |other: &&Question| std::mem::discriminant(*other) == std::mem::discriminant(&question);
            let most = match question {
                Question::Reach { .. } => REACHES_MAX,
                Question::Top { .. } => TOPS_MAX,
                Question::Trial { .. } => TRIALS_MAX,
            };
            if state.next.values().filter(of_kind).count() >= most {
                return Err(SurveyBusy);
            }
            state.next.insert(name.to_owned(), question);
            self.woken.notify_all();
        }
        Ok(waits)
    }

    /// The answer of a pass, or of a later one, if there is one.
    pub(super) fn answer_of(&self, name: &str, pass: PassNumber) -> Option<Arc<Answer>> {
        let state = self.state();
        state.answers.get(name).filter(|kept| kept.pass >= pass).map(|kept| kept.answer.clone())
    }

    /// Who waited for an answer is told to ask again: says how far it is, or gives the answer if it has just come.
    pub(super) fn leave(&self, name: &str, pass: PassNumber) -> Result<Arc<Answer>, Progress> {
        let mut state = self.state();
        if let Some(kept) = state.answers.get(name).filter(|kept| kept.pass >= pass) {
            return Ok(kept.answer.clone());
        }
        // Only what is asked is remembered, so there are no more of these than questions.
        state.awaited.insert(name.to_owned());
        let total = self.shards;
        Err(match &state.under_way {
            Some(under_way) if state.pass >= pass => {
                let (took, done) = (under_way.begun.elapsed(), under_way.done.max(1) as u32);
                let rest = took * (total.saturating_sub(under_way.done)) as u32 / done;
                Progress { done: under_way.done, total, rest }
            }
            _ => Progress { done: 0, total, rest: Duration::from_secs(1) },
        })
    }

    /// Waits for questions and begins the pass that answers them; `None` at the end.
    pub(super) fn begin_pass(&self, now: impl FnOnce() -> TsMs) -> Option<PassQuestions> {
        let mut state = self.state();
        while state.next.is_empty() && !state.ends {
            state = self.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.ends {
            return None;
        }
        let (names, questions): (Vec<_>, Vec<_>) = std::mem::take(&mut state.next).into_iter().unzip();
        let (as_of, begun) = (now(), Instant::now());
        state.pass += 1;
        state.under_way = Some(UnderWay { names: names.iter().cloned().collect(), as_of, begun, done: 0 });
        Some(PassQuestions { names, questions, as_of, begun })
    }

    /// One more shard is done.
    pub(super) fn shard_is_done(&self) {
        if let Some(under_way) = &mut self.state().under_way {
            under_way.done += 1;
        }
    }

    /// Waits so long, or until the end; says whether it goes on.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state();
        while !state.ends
            && let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            state = self.woken.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        !state.ends
    }

    /// Keeps the answers of the pass under way, in the order of its names.
    pub(super) fn end_pass(&self, names: Vec<String>, answers: impl Iterator<Item = Answer>) {
        let mut state = self.state();
        let (pass, ended) = (state.pass, Instant::now());
        state.under_way = None;
        for (name, answer) in names.into_iter().zip(answers) {
            // Who asked for the next pass, too, waits for that one.
            let is_awaited = if state.next.contains_key(&name) {
                state.awaited.contains(&name)
            } else {
                state.awaited.remove(&name)
            };
            state.answers.insert(name, Kept { answer: Arc::new(answer), pass, ended, is_awaited });
        }
        keep_newest(&mut state.answers, ANSWERS_MAX, |_| true);
        keep_newest(&mut state.answers, LONG_ANSWERS_MAX, |answer| matches!(answer.found, Found::Top { .. }));
        drop(state);
        self.passes.send_replace(pass);
    }

    /// Ends the thread.
    pub(super) fn end(&self) {
        self.state().ends = true;
        self.woken.notify_all();
    }
}

/// Of the answers that are meant, keeps those of the newest passes, so many at most.
fn keep_newest(answers: &mut HashMap<String, Kept>, most: usize, is_meant: impl Fn(&Answer) -> bool) {
    let mut passes: Vec<PassNumber> =
        answers.values().filter(|kept| is_meant(&kept.answer)).map(|kept| kept.pass).collect();
    if passes.len() <= most {
        return;
    }
    passes.sort_unstable();
    let mut surplus = passes.len() - most;
    let newest_to_go = passes[surplus - 1];
    answers.retain(|_, kept| {
        let goes = surplus > 0 && kept.pass <= newest_to_go && is_meant(&kept.answer);
        surplus -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ReachQuestion;
    use crate::model::{CapKey, Kind, Trial, Window};

    fn question(n: usize) -> Question {
        let asked = ReachQuestion { kind: Kind::IMPRESSION, window: Window::Lifetime, at: None };
        Question::Reach { key: CapKey::new(format!("c:{n}")).unwrap(), asked, by_hour: false }
    }

    fn answer(as_of: u64) -> Answer {
        let (took, found) = (Duration::ZERO, Found::Trial(Trial::default()));
        Answer { as_of: TsMs(as_of), took, shards: 4, unreadable: 0, found }
    }

    fn waits(entered: Result<Entered, SurveyBusy>) -> PassNumber {
        match entered {
            Ok(Entered::Waits(pass)) => pass,
            Ok(Entered::Answered(answer)) => panic!("answered as of {}", answer.as_of),
            Err(error) => panic!("{error}"),
        }
    }

    fn as_of(entered: Result<Entered, SurveyBusy>) -> u64 {
        match entered {
            Ok(Entered::Answered(answer)) => answer.as_of.0,
            Ok(Entered::Waits(pass)) => panic!("waits for {pass}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs the next pass, whose answers are as of this instant.
    fn run(board: &Board, now: u64) -> usize {
        let PassQuestions { names, .. } = board.begin_pass(|| TsMs(now)).unwrap();
        let asked = names.len();
        board.end_pass(names, (0..asked).map(|_| answer(now)));
        asked
    }

    #[test]
    fn an_answer_serves_while_it_is_young_enough() {
        let board = Board::new(4);
        let ask = |oldest: Option<u64>| board.enter("q", question(1), oldest.map(TsMs));
        assert_eq!(waits(ask(Some(100))), 1);
        assert_eq!(waits(ask(Some(100))), 1, "asked again, it waits for the same pass");
        assert_eq!(run(&board, 150), 1);
        assert_eq!(board.answer_of("q", 1).unwrap().as_of, TsMs(150));
        assert_eq!(as_of(ask(Some(150))), 150);
        assert_eq!(waits(ask(Some(151))), 2);
        assert_eq!(waits(ask(None)), 2);
        assert!(board.answer_of("q", 2).is_none());
    }

    #[test]
    fn what_is_asked_during_a_pass_waits_for_the_next_unless_the_pass_has_it() {
        let board = Board::new(4);
        waits(board.enter("q", question(1), Some(TsMs(100))));
        let first = board.begin_pass(|| TsMs(150)).unwrap();
        assert_eq!(waits(board.enter("q", question(1), Some(TsMs(150)))), 1);
        assert_eq!(waits(board.enter("q", question(1), None)), 2);
        assert_eq!(waits(board.enter("other", question(2), Some(TsMs(100)))), 2);
        board.shard_is_done();
        let progress = board.leave("q", 1).unwrap_err();
        assert_eq!((progress.done, progress.total), (1, 4));
        assert_eq!(board.leave("other", 2).unwrap_err().done, 0);
        board.end_pass(first.names, [answer(150)].into_iter());
        assert_eq!(run(&board, 200), 2);
    }

    #[test]
    fn who_was_told_to_ask_again_gets_the_answer_however_long_the_pass_took() {
        let board = Board::new(4);
        let pass = waits(board.enter("q", question(1), None));
        assert!(board.leave("q", pass).is_err());
        let questions = board.begin_pass(|| TsMs(100)).unwrap();
        // Asked again while it is counted: no second pass.
        assert_eq!(waits(board.enter("q", question(1), None)), 1);
        board.end_pass(questions.names, [answer(100)].into_iter());
        assert_eq!(as_of(board.enter("q", question(1), None)), 100);
        assert_eq!(as_of(board.enter("q", question(1), Some(TsMs(9_000)))), 100);
    }

    #[test]
    fn questions_and_answers_are_bounded() {
        let board = Board::new(4);
        for n in 0..REACHES_MAX {
            waits(board.enter(&n.to_string(), question(n), None));
        }
        assert!(board.enter("more", question(0), None).is_err());
        assert_eq!(run(&board, 100), REACHES_MAX);
        waits(board.enter("more", question(0), None));
        assert_eq!(run(&board, 200), 1);
        assert_eq!(board.state().answers.len(), ANSWERS_MAX);
        assert!(board.answer_of("more", 2).is_some());
    }

    #[test]
    fn an_end_wakes_who_waits() {
        let board = Arc::new(Board::new(4));
        let pauses = board.clone();
        let waiting = std::thread::spawn(move || pauses.pause(Duration::from_secs(600)));
        board.end();
        assert!(!waiting.join().unwrap());
        assert!(board.begin_pass(|| TsMs(0)).is_none());
    }
}
