//! Judging tables of consistent hashing.

use std::collections::{BTreeMap, BTreeSet};

use kswitch_tables::Endpoint;
use kswitch_tables::maglev::{self, Preference, Table};

use super::findings::Findings;
use super::format::Word;
use super::format::maglev::{Algorithm, Backend, Expect, Vector};
use super::topology::Broken;

/// The owner of slots that nobody has.
const NOBODY: &str = "-1";

/// Builds the tables of a case and judges them.
///
/// # Errors
/// A vector lacks something that its algorithm needs.
pub fn judge(vectors: &[Vector], findings: &mut Findings) -> Result<(), Broken> {
    for vector in vectors {
        findings.item(&vector.name);
        if matches!(vector.algorithm, Algorithm::KatranV1 | Algorithm::KatranV2) {
            findings.leave_out("Katran's algorithms are not claimed");
        } else {
            judge_one(vector, findings)?;
        }
    }
    Ok(())
}

fn judge_one(vector: &Vector, findings: &mut Findings) -> Result<(), Broken> {
    let all: Vec<&Backend> = vector.backends.iter().collect();
    let left: Vec<&Backend> =
        vector.backends.iter().filter(|at| !vector.remove.contains(&at.id)).collect();
    let (table, after) = (owners(vector, &all)?, owners(vector, &left)?);
    let Expect {
        table: expected,
        table_rle,
        table_after,
        counts,
        spread,
        spread_at_most,
        moved_survivors_below,
        restored_when_added_back,
        same_for_any_order,
    } = &vector.expect;
    let unrolled = table_rle.as_deref().map(unroll).transpose()?;
    for (expected, got) in [(expected, &table), (&unrolled, &table), (table_after, &after)] {
        if let Some(expected) = expected.as_ref().filter(|expected| *expected != got) {
            let at = expected.iter().zip(got).position(|(a, b)| a != b);
            let why = format!("the first slot that differs: {at:?}");
            findings.differs(rolled(expected), rolled(got), vec![why]);
        }
    }
    let count = count(&all, &table);
    for (id, expected) in counts {
        let got = count.get(id).copied().unwrap_or(0);
        if got != *expected {
            let text = |slots| format!("{} has {slots} slots", id.0);
            findings.differs(text(*expected), text(got), Vec::new());
        }
    }
    let got = count.values().max().unwrap_or(&0) - count.values().min().unwrap_or(&0);
    if let Some(expected) = spread.filter(|expected| *expected != got) {
        findings.differs(format!("spread {expected}"), format!("spread {got}"), Vec::new());
    }
    if let Some(bound) = spread_at_most.filter(|bound| got > *bound) {
        findings.differs(format!("spread at most {bound}"), format!("spread {got}"), Vec::new());
    }
    if let Some(bound) = moved_survivors_below {
        let share = moved_survivors(vector, &table, &after);
        if share >= *bound {
            let expected = format!("less than {bound} of the slots move without need");
            findings.differs(expected, format!("{share:.4} of them do"), Vec::new());
        }
    }
    if *restored_when_added_back {
        let gone = all.iter().filter(|at| vector.remove.contains(&at.id));
        let back: Vec<&Backend> = left.iter().chain(gone).copied().collect();
        if owners(vector, &back)? != table {
            findings.differs("the same table once they are back", "another one", Vec::new());
        }
    }
    if *same_for_any_order {
        for turn in 0..all.len() {
            let mut order = all.clone();
            order.rotate_left(turn);
            for order in [order.clone(), order.into_iter().rev().collect()] {
                if owners(vector, &order)? != table {
                    let ids: Vec<_> = order.iter().map(|at| at.id.0.as_str()).collect();
                    let why = vec![format!("in the order {}", ids.join(", "))];
                    findings.differs("the same table for any order", "another one", why);
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The owner of each slot, if these share them.
fn owners(vector: &Vector, backends: &[&Backend]) -> Result<Vec<Word>, Broken> {
    let size = vector.table_size;
    if backends.is_empty() {
        return Ok(vec![Word(NOBODY.to_owned()); size]);
    }
    let lacks = |backend: &Backend, what: &str| {
        Broken(format!("vector {}: backend {} has no `{what}`", vector.name, backend.id.0))
    };
    let table = if vector.algorithm == Algorithm::Paper {
        let member = |backend: &&Backend| {
            let offset = backend.offset.ok_or_else(|| lacks(backend, "offset"))?;
            let skip = backend.skip.ok_or_else(|| lacks(backend, "skip"))?;
            Ok((Preference { offset, skip }, backend.weight.unwrap_or(1)))
        };
        let members: Vec<_> = backends.iter().map(member).collect::<Result<_, Broken>>()?;
        Table::build(size, &members)
    } else {
        let member = |backend: &&Backend| {
            let ip = backend.ip.ok_or_else(|| lacks(backend, "ip"))?;
            let port = backend.port.ok_or_else(|| lacks(backend, "port"))?;
            let endpoint = Endpoint::new(ip.into(), port);
            let name = maglev::name(endpoint, backend.protocol.protocol());
            Ok((name, backend.weight.unwrap_or(1)))
        };
        let members: Vec<_> = backends.iter().map(member).collect::<Result<_, Broken>>()?;
        let seed = vector.seed.as_deref().map_or(Ok(maglev::SEED), seed)?;
        Table::of_names(size, seed, &members)
    };
    let table = table.ok_or_else(|| {
        Broken(format!("vector {}: there is no table of {size} slots for them", vector.name))
    })?;
    let owner = |member: &u16| {
        let backend = backends.get(usize::from(*member));
        backend.map_or_else(|| Word(NOBODY.to_owned()), |backend| backend.id.clone())
    };
    Ok(table.slots().iter().map(owner).collect())
}

/// The first four octets of a seed in base64, the big end first.
fn seed(text: &str) -> Result<u32, Broken> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let broken = || Broken(format!("seed {text:?} is no base64 of four octets or more"));
    let mut bits = 0_u64;
    for digit in text.chars().take(6) {
        let value = DIGITS.find(digit).ok_or_else(broken)?;
        bits = bits << 6 | value as u64;
    }
    // six digits have 36 bits
    if text.len() < 6 { Err(broken()) } else { u32::try_from(bits >> 4).map_err(|_| broken()) }
}

fn count(backends: &[&Backend], table: &[Word]) -> BTreeMap<Word, usize> {
    let mut counts: BTreeMap<Word, usize> =
        backends.iter().map(|backend| (backend.id.clone(), 0)).collect();
    for owner in table {
        *counts.entry(owner.clone()).or_default() += 1;
    }
    counts
}

/// The share of slots that change their owner though neither owner has left.
fn moved_survivors(vector: &Vector, before: &[Word], after: &[Word]) -> f64 {
    let removed: BTreeSet<_> = vector.remove.iter().collect();
    let moves_needlessly = |(old, new): &(&Word, &Word)| old != new && !removed.contains(old);
    let moved = before.iter().zip(after).filter(moves_needlessly).count();
    let share = |slots: usize| f64::from(u32::try_from(slots).unwrap_or(u32::MAX));
    share(moved) / share(before.len().max(1))
}

/// Reads `owner(run),…`.
fn unroll(text: &str) -> Result<Vec<Word>, Broken> {
    let run = |item: &str| {
        let (owner, run) = item.trim().strip_suffix(')')?.split_once('(')?;
        Some(vec![Word(owner.to_owned()); run.parse().ok()?])
    };
    let runs: Option<Vec<_>> = text.split(',').map(run).collect();
    let runs = runs.ok_or_else(|| Broken(format!("{text:?} is no list of `owner(run)`")))?;
    Ok(runs.concat())
}

/// Writes `owner(run),…`.
fn rolled(table: &[Word]) -> String {
    let runs = table.chunk_by(|a, b| a == b);
    let run = |run: &[Word]| run.first().map(|owner| format!("{}({})", owner.0, run.len()));
    runs.filter_map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_of_cilium_is_its_first_four_octets() {
        assert_eq!(seed("JLfvgnHc2kaSUFaI"), Ok(maglev::SEED));
        assert!(seed("JLfv").is_err() && seed("JL!vgnHc").is_err());
    }

    #[test]
    fn runs_can_be_rolled_and_unrolled() {
        let text = "2(5),3(1),2(3)";
        assert_eq!(rolled(&unroll(text).unwrap()), text);
        assert_eq!(unroll(text).unwrap().len(), 9);
        assert!(unroll("2(5").is_err() && unroll("2").is_err());
    }
}
