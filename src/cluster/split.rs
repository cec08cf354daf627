//! A batch in parts, one for each node that it concerns, and its answers as one. Pure.

use std::collections::BTreeMap;

/// Which items of a batch go where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split<D> {
    parts: Vec<Part<D>>,
    items: usize,
}

/// The items of a batch that go to one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<D> {
    /// Where.
    pub to: D,
    /// Their indexes in the batch, rising: a user's events stay in their order.
    pub items: Vec<usize>,
}

impl<D: Ord + Clone> Split<D> {
    /// Splits a batch whose item `i` goes to `to[i]`. Parts are in the order of their first items.
    pub fn new(to: &[D]) -> Self {
        let mut parts: Vec<Part<D>> = Vec::new();
        let mut at: BTreeMap<&D, usize> = BTreeMap::new();
        for (item, to) in to.iter().enumerate() {
            let part = *at.entry(to).or_insert_with(|| {
                parts.push(Part { to: to.clone(), items: Vec::new() });
                parts.len() - 1
            });
            parts[part].items.push(item);
        }
        Self { parts, items: to.len() }
    }

    /// The parts.
    pub fn parts(&self) -> &[Part<D>] {
        &self.parts
    }

    /// To be filled with the answers.
    pub fn answers<R>(&self) -> Answers<R> {
        let mut slots = Vec::new();
        slots.resize_with(self.items, || None);
        Answers { slots }
    }
}

/// The answers of a batch, as they come.
#[derive(Debug)]
pub struct Answers<R> {
    slots: Vec<Option<R>>,
}

/// A part was answered with another number of results than it has items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{results} results for {items} items")]
pub struct WrongNumber {
    /// Of the part.
    pub items: usize,
    /// That came.
    pub results: usize,
}

impl<R> Answers<R> {
    /// The results of a part, in the order of its items.
    pub fn put<D>(&mut self, part: &Part<D>, results: Vec<R>) -> Result<(), WrongNumber> {
        if results.len() != part.items.len() {
            return Err(WrongNumber { items: part.items.len(), results: results.len() });
        }
        for (&item, result) in part.items.iter().zip(results) {
            self.slots[item] = Some(result);
        }
        Ok(())
    }

    /// The results in the order of the batch. Items of parts that were not answered get what `missing` makes.
    pub fn finish(self, mut missing: impl FnMut(usize) -> R) -> Vec<R> {
        self.slots.into_iter().enumerate().map(|(item, result)| result.unwrap_or_else(|| missing(item))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_in_the_order_of_the_batch() {
        let split = Split::new(&["b", "a", "b", "c", "a"]);
        let parts: Vec<_> = split.parts().iter().map(|part| (part.to, part.items.clone())).collect();
        assert_eq!(parts, [("b", vec![0, 2]), ("a", vec![1, 4]), ("c", vec![3])]);
    }

    #[test]
    fn a_part_that_is_not_answered_leaves_the_others_alone() {
        let split = Split::new(&[1, 2, 1]);
        let mut answers = split.answers();
        answers.put(&split.parts()[0], vec!["x", "y"]).unwrap();
        let wrong = answers.put(&split.parts()[1], vec!["z", "z"]);
        assert_eq!(wrong, Err(WrongNumber { items: 1, results: 2 }));
        assert_eq!(answers.finish(|_| "moving"), ["x", "moving", "y"]);
    }

    proptest! {
        #[test]
        fn a_batch_that_is_split_and_joined_is_answered_as_if_it_were_not(to in prop::collection::vec(0u8..5, 0..40)) {
            let split = Split::new(&to);
            let mut answers = split.answers();
            for part in split.parts() {
                prop_assert!(part.items.is_sorted() && part.items.iter().all(|&item| to[item] == part.to));
                answers.put(part, part.items.iter().map(|&item| (part.to, item)).collect()).unwrap();
            }
            let expected: Vec<_> = to.iter().copied().zip(0..).collect();
            prop_assert_eq!(answers.finish(|_| unreachable!()), expected);
        }
    }
}
