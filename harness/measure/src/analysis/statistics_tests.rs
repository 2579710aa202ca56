//! The intervals against simulated runs whose truth is known: they must cover it as often as they say, no difference
//! must be called none, a known one must be found.

use super::*;

/// Sum of twelve uniform numbers: nearly normal.
fn normal(random: &mut fastrand::Rng) -> f64 {
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}

/// Times of one run around `ms`: the run as a whole is off by about `between` ms, each request by about 5 ms more.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times of about 100 ms")]
fn run(random: &mut fastrand::Rng, ms: f64, between: f64) -> Times {
    let centre = ms + between * normal(random);
    Times::of((0..60).map(|_| ((centre + 5.0 * normal(random)) * 1000.0).max(1.0) as u64))
}

fn compared(a: &[Times], b: &[Times], random: &mut fastrand::Rng) -> Cell {
    let samples: Vec<Vec<&Times>> = [a, b].map(|runs| runs.iter().collect()).into();
    let drawn: Vec<Draws> = samples.iter().map(|runs| Draws::draw(runs, random)).collect();
    cell(Scenario::S1, Quantity::Complete, Percentile::P50, &samples, &drawn)
}

/// How many of 100 comparisons of `runs` runs each, with a true difference of `shift` ms: cover it; call it one.
fn trials(runs: usize, shift: f64) -> (u32, u32) {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut covered, mut found) = (0, 0);
    for _ in 0..100 {
        let [a, b] =
            [100.0, 100.0 + shift].map(|ms| (0..runs).map(|_| run(&mut random, ms, 2.0)).collect::<Vec<_>>());
        let difference = compared(&a, &b, &mut random).difference.unwrap();
        covered += u32::from(difference.interval.0 <= shift && shift <= difference.interval.1);
        found += u32::from(difference.verdict != Verdict::None);
    }
    (covered, found)
}

#[test]
fn where_there_is_no_difference_none_is_called_in_at_least_95_of_100_comparisons() {
    for runs in [2, 3, 5] {
        let (covered, found) = trials(runs, 0.0);
        assert!(covered >= 90 && found <= 5, "{runs} runs: {covered} of 100 cover, {found} called different");
    }
}

#[test]
fn a_difference_of_20_ms_is_found_and_its_interval_contains_it() {
    let (covered, found) = trials(5, 20.0);
    assert!(covered >= 90 && found == 100, "{covered} of 100 cover, {found} found");
}

#[test]
fn an_interval_that_covered_only_the_requests_would_be_far_too_narrow() {
    // The control: with all requests in one pot, runs that differ as a whole look like a difference.
    let mut random = fastrand::Rng::with_seed(7);
    let [a, b] = [0; 2].map(|_| (0..5).map(|_| run(&mut random, 100.0, 2.0)).collect::<Vec<_>>());
    let cell = compared(&a, &b, &mut random);
    let (low, high) = cell.variants[0].as_ref().unwrap().interval.unwrap();
    let pooled = 1.96 * 1.25 * 5.0 / 300_f64.sqrt();
    assert!(high - low > 4.0 * pooled, "{} is not wider than {pooled}", high - low);
}

#[test]
fn one_run_has_a_figure_but_no_interval_and_no_verdict() {
    let mut random = fastrand::Rng::with_seed(7);
    let (a, b) = ([run(&mut random, 100.0, 0.0)], [run(&mut random, 200.0, 0.0)]);
    let cell = compared(&a, &b, &mut random);
    assert!(
        cell.difference.is_none() && cell.variants.iter().flatten().all(|variant| variant.interval.is_none())
    );
    assert!((cell.variants[1].as_ref().unwrap().ms - 200.0).abs() < 2.0);
}

#[test]
fn what_the_times_cannot_resolve_is_no_difference() {
    let (a, b) = (vec![Times::of(vec![2_000_000; 50]); 3], vec![Times::of(vec![2_001_000; 50]); 3]);
    let difference = compared(&a, &b, &mut fastrand::Rng::with_seed(1)).difference.unwrap();
    assert_eq!(difference.verdict, Verdict::None, "{difference:?}");
}

#[test]
fn the_median_is_the_one_in_the_middle_or_between_both() {
    let of = |values: &[f64]| Spread::of(values.iter().copied());
    assert_eq!(of(&[9.0, 1.0, 5.0]), Some(Spread { median: 5.0, min: 1.0, max: 9.0 }));
    assert_eq!(of(&[1.0, 2.0, 4.0, 9.0]).map(|spread| spread.median), Some(3.0));
    assert_eq!(of(&[]), None);
}
