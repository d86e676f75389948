//! Binary agreement by exponential information gathering.
//!
//! Participants 0..N tell each other a bit, then what they were told, and so on for `depth` rounds. A node of the tree is
//! a sequence of distinct participants: the value of p_1 p_2 … p_l is what p_l said that p_(l−1) said that … p_1 has. At
//! the end values are resolved from the leaves up by strict majority, ties and gaps giving 0.
//!
//! With `depth` = f + 1 and N ≥ 3f + 1 the honest participants, and honest listeners, agree: a node that ends in an
//! honest participant has the same value at all of them and resolves to it (by induction from the leaves: of its at least
//! N − depth + 1 children more than half end in honest participants and repeat its value), and every path from the root
//! to a leaf has such a node. If all honest participants start with the same bit, it is the result, also for N = 3t,
//! depth = t and t wrong participants: a node of level l < t has N − l > 2t children, at most t of them wrong.
//!
//! Source: Pease, Shostak and Lamport, JACM 27 (1980); as a tree in Lynch, *Distributed Algorithms*, §6.2.3.

/// The tree of all sequences of up to `depth` distinct participants; the same for all instances.
pub(super) struct Shape {
    participants: usize,
    /// For each level the nodes in lexicographic order, as sets of their participants. Level 0 is the root.
    levels: Vec<Vec<u32>>,
}

impl Shape {
    pub(super) fn new(participants: usize, depth: usize) -> Self {
        let mut levels = vec![vec![0u32]];
        for level in 0..depth {
            let next =
                levels[level].iter().flat_map(|set| outside(participants, *set).map(move |p| set | 1 << p)).collect();
            levels.push(next);
        }
        Self { participants, levels }
    }

    /// Bits that a participant sends in a round (from 1): nodes of the level before without it.
    pub(super) fn relayed(&self, round: usize) -> usize {
        let nodes = self.levels[round - 1].len();
        // Each participant is in the same number of nodes of a level: (round − 1) / N of them.
        nodes - nodes * (round - 1) / self.participants
    }

    /// Node `child` of the next level.
    fn child(&self, level: usize, node: usize, participant: usize) -> usize {
        let below = outside(participant, self.levels[level][node]).count();
        node * (self.participants - level) + below
    }
}

/// Participants 0..end that are not in the set.
fn outside(end: usize, set: u32) -> impl Iterator<Item = usize> {
    (0..end).filter(move |p| set >> p & 1 == 0)
}

/// Values of the nodes, level by level; level 0 is this party's input.
pub(super) struct Tree {
    values: Vec<Vec<bool>>,
}

impl Tree {
    pub(super) fn new(shape: &Shape) -> Self {
        Self { values: shape.levels.iter().map(|level| vec![false; level.len()]).collect() }
    }

    pub(super) fn set_input(&mut self, bit: bool) {
        self.values[0][0] = bit;
    }

    /// Appends what participant `own`, whose tree this is, says in a round.
    pub(super) fn relay(&self, shape: &Shape, round: usize, own: usize, out: &mut Vec<bool>) {
        let level = round - 1;
        let values = self.values[level].iter().zip(&shape.levels[level]);
        out.extend(values.filter(|(_, set)| **set >> own & 1 == 0).map(|(value, _)| *value));
    }

    /// Takes what `participant` says in a round.
    pub(super) fn absorb(&mut self, shape: &Shape, round: usize, participant: usize, bits: &[bool]) {
        let level = round - 1;
        let nodes = shape.levels[level].iter().enumerate().filter(|(_, set)| **set >> participant & 1 == 0);
        for ((node, _), bit) in nodes.zip(bits) {
            self.values[round][shape.child(level, node, participant)] = *bit;
        }
    }

    pub(super) fn resolve(&self, shape: &Shape) -> bool {
        let depth = shape.levels.len() - 1;
        let mut resolved = self.values[depth].clone();
        for level in (0..depth).rev() {
            let children = shape.participants - level;
            resolved =
                resolved.chunks_exact(children).map(|c| 2 * c.iter().filter(|b| **b).count() > children).collect();
        }
        resolved[0]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs the gathering among `n` participants and a listener; wrong ones say what `lie` says.
    fn run(n: usize, depth: usize, inputs: &[bool], wrong: u32, mut lie: impl FnMut() -> bool) -> Vec<bool> {
        let shape = Shape::new(n, depth);
        let mut trees: Vec<Tree> = (0..=n).map(|_| Tree::new(&shape)).collect();
        trees.iter_mut().zip(inputs).for_each(|(tree, bit)| tree.set_input(*bit));
        for round in 1..=depth {
            let said: Vec<Vec<bool>> = (0..n)
                .map(|p| {
                    let mut bits = Vec::new();
                    trees[p].relay(&shape, round, p, &mut bits);
                    assert_eq!(bits.len(), shape.relayed(round));
                    bits
                })
                .collect();
            for tree in &mut trees {
                for (p, bits) in said.iter().enumerate() {
                    let bits: Vec<bool> = bits.iter().map(|b| if wrong >> p & 1 == 1 { lie() } else { *b }).collect();
                    tree.absorb(&shape, round, p, &bits);
                }
            }
        }
        (0..=n).filter(|p| wrong >> p & 1 == 0).map(|p| trees[p].resolve(&shape)).collect()
    }

    fn wrong_set(n: usize, size: usize, seed: u64) -> u32 {
        (0..size as u64).fold(0, |set, i| {
            let mut p = (seed >> (8 * i)) as usize % n;
            while set >> p & 1 == 1 {
                p = (p + 1) % n;
            }
            set | 1 << p
        })
    }

    proptest! {
        #[test]
        fn honest_participants_and_listeners_agree(inputs: [bool; 12], seed: u64, lies: u64) {
            for t in 1..=4 {
                let mut state = lies | 1;
                let mut lie = || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    state >> 60 & 1 == 1
                };
                // The sender is wrong: t − 1 others may be.
                let n = 3 * t;
                let results = run(n, t, &inputs[..n], wrong_set(n, t - 1, seed), &mut lie);
                prop_assert!(results.windows(2).all(|w| w[0] == w[1]));
                // The sender is honest: t others may be wrong, and the honest ones start with the same bit.
                for bit in [false, true] {
                    let results = run(n, t, &vec![bit; n], wrong_set(n, t, seed), &mut lie);
                    prop_assert!(results.iter().all(|r| *r == bit));
                }
            }
        }
    }
}
