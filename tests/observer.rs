//! The observer: somebody who has the whole log and two general look-ups of every person in a people file, and guesses what is
//! hidden. Every guess is held against the base rate given the version and what is visible, and none may beat it.
//!
//! Everybody registers as the file says and is looked up. Then people change, in such a way that whether something hidden stands
//! is a coin, and its MSP a throw of dice, whatever the version and the visible part are; and everybody is looked up again.
//! Each feature that the observer can read off ([`observer_world::features`]) is given to learners that know the truth about
//! one half of the people and guess it for the other ([`observer_world::learner`]): is something hidden, how many, at which MSP.
//! What beats the majority's guess by more than chance fails the test. That the test can fail is shown with data that was made
//! to leak ([`observer_world::leaks`]). How long an answer takes is not looked at here.
//!
//! `cargo test` takes the first people of the file; `WAYMARK_OBSERVER_PEOPLE=all` takes everybody. `WAYMARK_PEOPLE` names the
//! file; without one, people are made up. `WAYMARK_OBSERVER_SEED` is the seed of who does what.

mod common;
mod observer_world;

use std::time::Instant;

use observer_world::{
    features,
    leaks::Leak,
    learner::{Judgement, judge},
    people::{self, Person},
    seen::Observed,
    town::Town,
    truth,
};

/// Chance that a run fails though nothing leaks, at most: half of it for all guesses from single bytes together, half for the
/// others.
const FALSE_ALARM: f64 = 1e-3;

/// Lets the observer make every guess about these look-ups, and returns the judgements, the strongest last.
fn attack(seen: &Observed, people: &[Person], looks: &[usize], with_bytes: bool) -> Vec<Judgement> {
    let mut judgements = Vec::new();
    for look in looks {
        let columns = features::columns(seen, *look, with_bytes);
        let questions = truth::questions(seen, people, *look);
        std::thread::scope(|scope| {
            let threads: Vec<_> = questions.iter().map(|q| scope.spawn(|| judge(q, &columns))).collect();
            threads.into_iter().for_each(|thread| judgements.extend(thread.join().unwrap()));
        });
    }
    judgements.sort_by(|a, b| b.chance.total_cmp(&a.chance));
    judgements
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_stays_hidden_from_two_general_look_ups_and_the_log() {
    let (mut people, seed) = people::read();
    println!("observer: {} people, seed {seed}", people.len());
    let began = Instant::now();
    let town = Town::found(&people, seed).await;
    people = town.register(people).await;
    let first = town.look_everybody_up(&people).await;
    people = town.live(people).await;
    let second = town.look_everybody_up(&people).await;
    let seen = town.observe(&people, first, second).await;
    town.check(&people, &seen).await;
    town.stop().await;
    println!("observer: {} entries, lived in {:.1} s", seen.entries.len(), began.elapsed().as_secs_f64());

    let began = Instant::now();
    let judgements = attack(&seen, &people, &[0, 1], true);
    println!("observer: {} guesses in {:.1} s", judgements.len(), began.elapsed().as_secs_f64());
    judgements.iter().rev().take(5).for_each(|j| println!("  strongest: {j}"));
    let from_bytes = judgements.iter().filter(|j| j.is_byte).count();
    let limit = |j: &Judgement| {
        let guesses = if j.is_byte { from_bytes } else { judgements.len() - from_bytes };
        FALSE_ALARM / 2.0 / guesses as f64
    };
    let beaten: Vec<String> = judgements.iter().filter(|j| j.chance < limit(j)).map(Judgement::to_string).collect();
    assert!(beaten.is_empty(), "the observer beats the base rate:\n{}", beaten.join("\n"));

    // The same observer, with the same learners, catches each of these.
    for leak in Leak::ALL {
        let leaky = attack(&leak.put_into(&seen, &people), &people, &[1], leak.is_in_a_byte());
        let strongest = leaky.last().unwrap();
        println!("  {leak:?}: {strongest}");
        assert!(leaky.iter().any(|j| j.chance < limit(j)), "{leak:?} is not noticed: the test proves nothing");
    }
}
