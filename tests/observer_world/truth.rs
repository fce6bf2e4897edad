//! What the observer wants to know, and the base rate: what may be seen of a person without any trick.

use std::collections::HashMap;

use super::{
    people::Person,
    seen::{Answered, Observed},
};

/// One person in one question.
#[derive(Clone, Copy)]
pub struct Case {
    /// Whose row of the columns.
    pub person: usize,
    /// Version and visible part: people with the same have the same base rate.
    pub class: usize,
    /// What is so.
    pub truth: usize,
    /// Bit set of what cannot be so: in the people file, nobody hides a mapping at an MSP where another one is visible.
    pub excluded: u64,
}

/// What is to be guessed.
pub struct Question {
    pub name: String,
    pub cases: Vec<Case>,
    pub classes: usize,
    /// Answers are 0 up to this, exclusive.
    pub answers: usize,
}

/// Most hidden mappings that are told apart.
const COUNT_MAX: usize = 3;

/// The questions about everybody at a look-up: is something hidden, how many, and where the first one is.
pub fn questions(seen: &Observed, people: &[Person], look: usize) -> Vec<Question> {
    let hidden = |p: &Person| if look == 0 { p.hidden_at_first.clone() } else { p.hidden_msps() };
    let msp = |i: usize| {
        let first = hidden(&people[i]).into_iter().next();
        first.and_then(|domain| seen.msps.iter().position(|m| *m == domain))
    };
    let when = ["first", "second"][look];
    let everybody: Vec<usize> = (0..people.len()).collect();
    let with_hidden: Vec<usize> = (0..people.len()).filter(|i| msp(*i).is_some()).collect();
    let count = |i: usize| hidden(&people[i]).len().min(COUNT_MAX);
    let question = |what: &str, who: &[usize], answers: usize, truth: &dyn Fn(usize) -> usize, narrow: bool| {
        let mut numbers = HashMap::new();
        let case = |person: &usize| {
            let next = numbers.len();
            let class = *numbers.entry(class(seen, *person, look)).or_insert(next);
            let excluded = if narrow { visible_msps(seen, &seen.looks[0][*person]) } else { 0 };
            Case { person: *person, class, truth: truth(*person), excluded }
        };
        let cases: Vec<Case> = who.iter().map(case).collect();
        Question { name: format!("{what}, {when} look-up"), cases, classes: numbers.len(), answers }
    };
    vec![
        question("something hidden", &everybody, 2, &|i| count(i).min(1), false),
        question("how many hidden", &everybody, COUNT_MAX + 1, &count, false),
        question("where hidden", &with_hidden, seen.msps.len(), &|i| msp(i).unwrap_or(0), look == 0),
    ]
}

/// What goes with the base rate: the version, whether anything is visible, whether the person opted out, and as long as all is as
/// the file says, how many visible mappings there are. In the second period nothing else visible goes with what is hidden.
fn class(seen: &Observed, person: usize, look: usize) -> (u32, usize, bool) {
    let answered = &seen.looks[look][person];
    let (version, visible) = (answered.answer.version, answered.body().visible.len());
    (version, if version == 0 { visible } else { visible.min(1) }, answered.opts_out())
}

fn visible_msps(seen: &Observed, answered: &Answered) -> u64 {
    let named = answered.body().visible.iter().filter_map(|v| v.content.mapping()?.msp.get());
    named.filter_map(|domain| seen.msps.iter().position(|m| *m == domain)).fold(0, |set, i| set | 1 << i)
}
