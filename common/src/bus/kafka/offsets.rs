//! Which records of the assigned partitions are settled, and which offset may be committed. Records are settled in any order; a
//! committed offset is one number. So the offset of the lowest record that is not settled is committed.

use std::collections::{BTreeMap, BTreeSet};

/// A record of an assigned partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) offset: i64,
    assignment: u64,
}

/// The records that were received from the assigned partitions.
#[derive(Default)]
pub(super) struct Offsets {
    partitions: BTreeMap<i32, Partition>,
    /// Counts assignments: a record belongs to the one in which it was received.
    assignments: u64,
}

struct Partition {
    assignment: u64,
    /// Received and not settled.
    unsettled: BTreeSet<i64>,
    /// Records that handlers have.
    at_work: usize,
    /// The offset after the last record that was received.
    next: Option<i64>,
    committed: Option<i64>,
    /// The partition is about to be taken away: handlers get none of its records any more.
    leaving: bool,
}

impl Partition {
    fn committable(&self) -> Option<i64> {
        let offset = self.unsettled.first().copied().or(self.next)?;
        (self.committed < Some(offset)).then_some(offset)
    }
}

impl Offsets {
    /// These partitions are assigned, with none of their records received.
    pub(super) fn assign(&mut self, partitions: impl IntoIterator<Item = i32>) {
        self.assignments += 1;
        for partition in partitions {
            let (assignment, unsettled) = (self.assignments, BTreeSet::new());
            let assigned =
                Partition { assignment, unsettled, at_work: 0, next: None, committed: None, leaving: false };
            self.partitions.insert(partition, assigned);
        }
    }

    /// A record was received. `None` if it cannot follow the last one: the topic was deleted and made again.
    pub(super) fn receive(&mut self, partition: i32, offset: i64) -> Option<Place> {
        let known = self.partitions.get_mut(&partition)?;
        if known.next.is_some_and(|next| offset < next) {
            return None;
        }
        known.next = Some(offset + 1);
        known.unsettled.insert(offset);
        Some(Place { partition, offset, assignment: known.assignment })
    }

    /// A handler is to get the record; false if the partition is no longer assigned.
    pub(super) fn begin(&mut self, place: Place) -> bool {
        match self.of(place) {
            Some(partition) if !partition.leaving => {
                partition.at_work += 1;
                true
            }
            _ => false,
        }
    }

    /// The handler has done with the record.
    pub(super) fn end(&mut self, place: Place) {
        if let Some(partition) = self.of(place) {
            partition.at_work -= 1;
        }
    }

    /// The record need not be delivered again.
    pub(super) fn settle(&mut self, place: Place) {
        if let Some(partition) = self.of(place) {
            partition.unsettled.remove(&place.offset);
        }
    }

    fn of(&mut self, place: Place) -> Option<&mut Partition> {
        let partition = self.partitions.get_mut(&place.partition)?;
        (partition.assignment == place.assignment).then_some(partition)
    }

    /// The number of records that are not settled, by partition.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = (i32, usize)> {
        self.partitions.iter().map(|(number, partition)| (*number, partition.unsettled.len()))
    }

    /// The offsets to commit, where they have changed.
    pub(super) fn committable(&self) -> Vec<(i32, i64)> {
        let of = |(number, partition): (&i32, &Partition)| Some((*number, partition.committable()?));
        self.partitions.iter().filter_map(of).collect()
    }

    pub(super) fn committed(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition)
            // A report of an earlier assignment can come late.
            && partition.next >= Some(offset)
        {
            partition.committed = partition.committed.max(Some(offset));
        }
    }

    /// Handlers get no record of these partitions any more.
    pub(super) fn leave(&mut self, partitions: &[i32]) {
        for number in partitions {
            if let Some(partition) = self.partitions.get_mut(number) {
                partition.leaving = true;
            }
        }
    }

    /// Whether handlers have records of partitions that leave.
    pub(super) fn leaving_at_work(&self) -> bool {
        self.partitions.values().any(|partition| partition.leaving && partition.at_work > 0)
    }

    /// These partitions are no longer assigned.
    pub(super) fn forget(&mut self, partitions: &[i32]) {
        self.partitions.retain(|number, _| !partitions.contains(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(offsets: &mut Offsets, numbers: impl IntoIterator<Item = i64>) -> Vec<Place> {
        numbers.into_iter().map(|offset| offsets.receive(0, offset).expect("it follows")).collect()
    }

    fn assigned() -> Offsets {
        let mut offsets = Offsets::default();
        offsets.assign([0, 1]);
        offsets
    }

    #[test]
    fn the_lowest_unsettled_offset_is_committed() {
        let mut offsets = assigned();
        assert_eq!(offsets.committable(), []);
        let places = received(&mut offsets, 10..14);
        assert_eq!(offsets.committable(), [(0, 10)]);
        offsets.committed(0, 10);
        offsets.settle(places[1]);
        offsets.settle(places[3]);
        assert_eq!(offsets.committable(), [], "the first one is not settled");
        offsets.settle(places[0]);
        assert_eq!(offsets.committable(), [(0, 12)]);
        offsets.settle(places[2]);
        assert_eq!(offsets.committable(), [(0, 14)]);
        offsets.committed(0, 14);
        assert_eq!(offsets.committable(), []);
        // A commit that is reported late.
        offsets.committed(0, 12);
        assert_eq!(offsets.committable(), []);
    }

    #[test]
    fn offsets_may_have_gaps_and_never_go_back() {
        let mut offsets = assigned();
        let places = received(&mut offsets, [3, 7]);
        offsets.settle(places[0]);
        assert_eq!(offsets.committable(), [(0, 7)]);
        assert_eq!(offsets.receive(0, 7), None);
        assert_eq!(offsets.receive(0, 0), None);
        assert_eq!(offsets.receive(2, 0), None, "not assigned");
    }

    #[test]
    fn a_record_of_an_earlier_assignment_changes_nothing() {
        let mut offsets = assigned();
        let places = received(&mut offsets, 0..2);
        assert!(offsets.begin(places[0]));
        offsets.forget(&[0]);
        offsets.assign([0]);
        let again = received(&mut offsets, 0..2);
        offsets.settle(places[0]);
        offsets.end(places[0]);
        assert!(!offsets.begin(places[1]));
        assert_eq!(offsets.committable(), [(0, 0)]);
        offsets.settle(again[0]);
        assert_eq!(offsets.committable(), [(0, 1)]);
    }

    #[test]
    fn a_partition_that_leaves_is_waited_for_and_begins_nothing() {
        let mut offsets = assigned();
        let places = received(&mut offsets, 0..2);
        assert!(offsets.begin(places[0]));
        offsets.leave(&[0]);
        assert!(!offsets.begin(places[1]));
        assert!(offsets.leaving_at_work());
        offsets.settle(places[0]);
        offsets.end(places[0]);
        assert!(!offsets.leaving_at_work());
        assert_eq!(offsets.committable(), [(0, 1)]);
        assert_eq!(offsets.unsettled().collect::<Vec<_>>(), [(0, 1), (1, 0)]);
    }
}
