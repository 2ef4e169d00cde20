//! What differs between two states whose objects are shared.

use std::sync::Arc;

/// Whether two lists hold the same objects in the same order.
pub(crate) fn are_same<T>(before: &[Arc<T>], after: &[Arc<T>]) -> bool {
    before.len() == after.len() && before.iter().zip(after).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// The objects that are only in one of two lists: those before, those after.
///
/// **Cost**: a comparison of pointers for each object; more only between the first and the last
/// difference.
pub(super) fn between<'o, T>(
    before: &'o [Arc<T>],
    after: &'o [Arc<T>],
) -> (Vec<&'o Arc<T>>, Vec<&'o Arc<T>>) {
    let (start, end) = same_ends(before, after);
    let differing =
        |objects: &'o [Arc<T>]| objects.get(start..objects.len() - end).unwrap_or_default();
    let (before, after) = (differing(before), differing(after));
    (missing_from(after, before), missing_from(before, after))
}

/// How many objects two lists share at the start, and how many more at the end.
pub(super) fn same_ends<T>(before: &[Arc<T>], after: &[Arc<T>]) -> (usize, usize) {
    let is_same = |(a, b): &(&Arc<T>, &Arc<T>)| Arc::ptr_eq(a, b);
    let start = before.iter().zip(after).take_while(is_same).count();
    let rest = before.len().min(after.len()) - start;
    let ends = before.iter().rev().zip(after.iter().rev());
    (start, ends.take(rest).take_while(is_same).count())
}

/// Those of `objects` that are not in `others`.
fn missing_from<'o, T>(others: &[Arc<T>], objects: &'o [Arc<T>]) -> Vec<&'o Arc<T>> {
    let mut known: Vec<*const T> = others.iter().map(Arc::as_ptr).collect();
    known.sort_unstable();
    objects.iter().filter(|object| known.binary_search(&Arc::as_ptr(object)).is_err()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_replaced_added_and_removed_objects_differ() {
        let objects: Vec<Arc<u32>> = (0..10).map(Arc::new).collect();
        let (mut before, mut after) = (objects.clone(), objects);
        after[4] = Arc::new(4);
        before.remove(2);
        after.remove(7);
        after.swap(8, 5);
        let (gone, new) = between(&before, &after);
        assert_eq!(gone.into_iter().map(|n| **n).collect::<Vec<_>>(), [4, 7]);
        assert_eq!(new.into_iter().map(|n| **n).collect::<Vec<_>>(), [2, 4]);
        assert!(!are_same(&before, &after) && are_same(&before, &before.clone()));
    }
}
