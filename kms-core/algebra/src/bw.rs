//! Berlekamp–Welch decoding over the residue field GF(2^d).
//!
//! Source: Welch and Berlekamp, US patent 4,633,470 (1986); the linear system form as in Gemmell and Sudan,
//! *Highly resilient correctors for polynomials* (1992), §2.

use crate::Gf;

/// Positions where `word` differs from the only polynomial of degree ≤ t that differs from it in at most `radius`
/// positions. `None` if there is none. Needs word.len() ≥ t + 1 + 2·radius and distinct points.
pub(crate) fn error_positions<const D: usize>(
    points: &[Gf<D>],
    word: &[Gf<D>],
    t: usize,
    radius: usize,
) -> Option<Vec<usize>> {
    debug_assert!(points.len() == word.len() && word.len() > t + 2 * radius);
    // N(x_i) = y_i·E(x_i), E monic of degree `radius`, N of degree ≤ t + radius. Unknowns: E_0.., then N_0..
    let (e, n) = (radius, t + radius + 1);
    let rows = points
        .iter()
        .zip(word)
        .map(|(x, y)| {
            let powers: Vec<Gf<D>> = powers(*x).take(n.max(e + 1)).collect();
            let mut row: Vec<Gf<D>> = powers[..e].iter().map(|p| *y * *p).collect();
            row.extend_from_slice(&powers[..n]);
            row.push(*y * powers[e]);
            row
        })
        .collect();
    let solution = solve(rows, e + n)?;
    let mut locator = solution[..e].to_vec();
    locator.push(Gf::ONE);
    let f = divide_exactly(solution[e..].to_vec(), &locator)?;
    if f.iter().skip(t + 1).any(|c| *c != Gf::ZERO) {
        return None;
    }
    let wrong: Vec<usize> =
        points.iter().zip(word).enumerate().filter(|(_, (x, y))| evaluate(&f, **x) != **y).map(|(i, _)| i).collect();
    (wrong.len() <= radius).then_some(wrong)
}

fn powers<const D: usize>(x: Gf<D>) -> impl Iterator<Item = Gf<D>> {
    core::iter::successors(Some(Gf::ONE), move |p| Some(*p * x))
}

fn evaluate<const D: usize>(f: &[Gf<D>], x: Gf<D>) -> Gf<D> {
    f.iter().rev().fold(Gf::ZERO, |sum, c| sum * x + *c)
}

/// Some solution of the linear system whose rows end with the right-hand side.
fn solve<const D: usize>(mut rows: Vec<Vec<Gf<D>>>, unknowns: usize) -> Option<Vec<Gf<D>>> {
    let mut pivots = Vec::new();
    for column in 0..unknowns {
        let rank = pivots.len();
        let Some(found) = (rank..rows.len()).find(|r| rows[*r][column] != Gf::ZERO) else { continue };
        rows.swap(rank, found);
        let inverse = rows[rank][column].inverse();
        rows[rank].iter_mut().for_each(|c| *c = *c * inverse);
        let pivot = rows[rank].clone();
        for (r, row) in rows.iter_mut().enumerate() {
            let factor = row[column];
            if r != rank && factor != Gf::ZERO {
                row.iter_mut().zip(&pivot).for_each(|(c, p)| *c += factor * *p);
            }
        }
        pivots.push(column);
    }
    if rows[pivots.len()..].iter().any(|row| row[unknowns] != Gf::ZERO) {
        return None;
    }
    let mut solution = vec![Gf::ZERO; unknowns];
    for (row, column) in rows.iter().zip(&pivots) {
        solution[*column] = row[unknowns];
    }
    Some(solution)
}

/// Quotient of a division by a monic polynomial; `None` if there is a remainder.
fn divide_exactly<const D: usize>(mut a: Vec<Gf<D>>, monic: &[Gf<D>]) -> Option<Vec<Gf<D>>> {
    let degree = monic.len() - 1;
    if a.len() <= degree {
        return a.iter().all(|c| *c == Gf::ZERO).then(Vec::new);
    }
    for top in (degree..a.len()).rev() {
        let factor = a[top];
        for (j, m) in monic[..degree].iter().enumerate() {
            a[top - degree + j] += factor * *m;
        }
    }
    let quotient = a.split_off(degree);
    a.iter().all(|c| *c == Gf::ZERO).then_some(quotient)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_exactly_the_errors_within_the_radius(
            f in proptest::collection::vec(0u8..16, 5),
            errors in proptest::collection::btree_map(0usize..13, 1u8..16, 0..=4),
            m in 9usize..=13,
        ) {
            let t = 4;
            let radius = m - 9;
            let f: Vec<Gf<4>> = f.into_iter().map(Gf::from_bits).collect();
            let points: Vec<Gf<4>> = (1..=m as u8).map(Gf::from_bits).collect();
            let mut word: Vec<Gf<4>> = points.iter().map(|x| evaluate(&f, *x)).collect();
            for (i, e) in &errors {
                if *i < m { word[*i] += Gf::from_bits(*e); }
            }
            let expect: Vec<usize> = errors.keys().copied().filter(|i| *i < m).collect();
            let got = error_positions(&points, &word, t, radius);
            if expect.len() <= radius {
                prop_assert_eq!(got, Some(expect));
            } else if let Some(got) = got {
                // Beyond the radius the word may look like another codeword, but never like the sent one.
                prop_assert!(got.len() <= radius && got != expect);
            }
        }
    }
}
