//! Systems that are known, to see what the search makes of them.

use super::*;

const RANGE: Range = Range { start: 20.0, highest: 10_000.0 };

/// What was found, and every rate that was tried.
fn explore(range: Range, system: impl Fn(f64) -> Verdict) -> (Found, Vec<f64>) {
    let mut tried = Vec::new();
    let found = search(range, |rate| {
        tried.push(rate);
        Ok(system(rate))
    });
    (found.unwrap(), tried)
}

fn up_to(knee: f64) -> impl Fn(f64) -> Verdict {
    move |rate| if rate <= knee { Verdict::Sustained } else { Verdict::Failed }
}

#[test]
fn the_knee_is_found_within_12_percent_wherever_it_is() {
    for knee in [1.0, 7.3, 19.0, 20.0, 21.0, 39.0, 100.0, 777.0, 1023.0, 5000.0, 9999.0] {
        let (found, tried) = explore(RANGE, up_to(knee));
        let sustained = found.sustainable.unwrap();
        let failing = tried.iter().copied().filter(|rate| *rate > knee).fold(f64::MAX, f64::min);
        assert!(sustained <= knee && failing / sustained <= 1.12, "{knee}: {sustained} of {tried:?}");
        assert_eq!(found.ended, Ended::Knee);
        assert!(tried.len() <= 16, "{knee}: {tried:?}");
    }
}

#[test]
fn no_rate_is_tried_twice_and_one_lies_well_beyond_the_knee() {
    for knee in [19.0, 39.0, 100.0, 777.0, 1270.0] {
        let (found, mut tried) = explore(RANGE, up_to(knee));
        let count = tried.len();
        tried.sort_by(f64::total_cmp);
        tried.dedup();
        assert_eq!(count, tried.len());
        assert!(*tried.last().unwrap() >= 1.25 * found.sustainable.unwrap(), "{knee}: {tried:?}");
    }
}

#[test]
fn reports_arrive_seldom_and_their_knee_is_found_too() {
    let (found, tried) = explore(Range { start: 0.05, highest: 10.0 }, up_to(0.2));
    assert!((0.17..=0.2).contains(&found.sustainable.unwrap()), "{tried:?}");
}

#[test]
fn where_nothing_is_sustained_the_search_gives_up() {
    let (found, tried) = explore(RANGE, up_to(0.0));
    assert_eq!(found, Found { sustainable: None, ended: Ended::Knee });
    assert_eq!(tried, [20.0, 10.0, 5.0, 2.5, 1.25, 0.625]);
}

#[test]
fn at_the_generators_limit_the_result_is_a_lower_bound_and_nothing_is_tried_beyond() {
    for limit in [1500.0, 2500.0] {
        let generator = |rate| if rate <= limit { Verdict::Sustained } else { Verdict::NotOffered };
        let (found, tried) = explore(RANGE, generator);
        assert_eq!(found.ended, Ended::NotOffered);
        assert!((limit / 1.12..=limit).contains(&found.sustainable.unwrap()), "{tried:?}");
        assert!(tried.iter().all(|rate| *rate <= 2560.0), "{tried:?}");
    }
}

#[test]
fn a_knee_below_the_generators_limit_is_the_systems() {
    let (found, _) = explore(RANGE, |rate| match rate {
        rate if rate <= 700.0 => Verdict::Sustained,
        rate if rate <= 1200.0 => Verdict::Failed,
        _ => Verdict::NotOffered,
    });
    assert_eq!(found.ended, Ended::Knee);
    assert!((625.0..=700.0).contains(&found.sustainable.unwrap()));
}

#[test]
fn the_highest_rate_is_tried_and_none_above() {
    let (found, tried) = explore(Range { start: 20.0, highest: 100.0 }, up_to(1e9));
    assert_eq!(found, Found { sustainable: Some(100.0), ended: Ended::Highest });
    assert_eq!(tried, [20.0, 40.0, 80.0, 100.0]);
}

#[test]
fn what_never_ends_ends_the_search() {
    let (found, tried) =
        explore(RANGE, |rate| if rate < 100.0 { Verdict::Sustained } else { Verdict::Stuck });
    assert_eq!(found, Found { sustainable: Some(80.0), ended: Ended::Stuck });
    assert_eq!(tried, [20.0, 40.0, 80.0, 160.0]);
}

#[test]
fn a_rate_that_failed_by_bad_luck_is_not_taken_for_the_knee() {
    // 160 fails although 700 is sustained.
    let (found, tried) =
        explore(RANGE, |rate| if rate == 160.0 { Verdict::Failed } else { up_to(700.0)(rate) });
    assert!((625.0..=700.0).contains(&found.sustainable.unwrap()), "{tried:?}");
}

#[test]
fn a_system_that_answers_at_random_ends_the_search_too() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut tries = 0;
        search(RANGE, |_| {
            tries += 1;
            Ok(if random.bool() { Verdict::Sustained } else { Verdict::Failed })
        })
        .unwrap();
        assert!(tries <= STEPS);
    }
}

#[test]
fn rates_are_neat() {
    assert_eq!([1234.4, 12.6, 9.876, 0.0707].map(neat), [1234.0, 13.0, 9.88, 0.071]);
}
