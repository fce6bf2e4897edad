//! Learners of the plainest kind, and the judgement whether one of them knows more than the base rate.
//!
//! Half of the people are for learning, half for guessing. For each column a table says what is most frequent of those of the
//! same class with the same value, or on the same side of the best threshold; where a table has seen too little, it says what
//! the class says. Besides, all columns together are weighed as if they were independent.
//!
//! A guess is compared with the majority's in the class, which is counted over everybody: the base rate is known for certain,
//! and the learners are not. Only people count for whom the two differ and one is right. If nothing leaks, each such case
//! is won with a chance of one half at most; the chance of winning so many is the judgement.

use std::fmt;

use super::{
    features::Column,
    truth::{Case, Question},
};

/// Cells with fewer people say nothing.
const SEEN_MIN: u32 = 3;
/// Thresholds that are tried for a column.
const THRESHOLDS: usize = 16;
/// Bins of a column when all are weighed together.
const BINS: usize = 16;

/// How a guess did.
pub struct Judgement {
    pub question: String,
    pub guess: String,
    /// Whether it was made from a single byte.
    pub is_byte: bool,
    /// People it was tried on.
    pub people: usize,
    /// How many of them it was right about, and the majority's guess.
    pub right: usize,
    pub base: usize,
    /// How often it was right where the majority's guess was wrong, and the other way round.
    pub won: usize,
    pub lost: usize,
    /// The chance to win so often by luck, at most.
    pub chance: f64,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |n: usize| 100.0 * n as f64 / self.people.max(1) as f64;
        write!(
            f,
            "{} from {}: right about {:.1} % of {}, the base rate {:.1} %; {} won, {} lost, by chance {:.1e}",
            self.question,
            self.guess,
            percent(self.right),
            self.people,
            percent(self.base),
            self.won,
            self.lost,
            self.chance
        )
    }
}

/// Counts of answers.
type Counts = Vec<u32>;

/// The most frequent answer that is not excluded, the first of equals.
fn most(counts: &[u32], excluded: u64) -> Option<usize> {
    let possible = (0..counts.len()).filter(|a| excluded >> a & 1 == 0 && counts[*a] > 0);
    possible.max_by_key(|a| (counts[*a], usize::MAX - a))
}

/// Puts a question with each column to each learner.
pub fn judge(question: &Question, columns: &[Column]) -> Vec<Judgement> {
    let learning: Vec<Case> = question.cases.iter().copied().filter(|c| c.person.is_multiple_of(2)).collect();
    let guessing: Vec<Case> = question.cases.iter().copied().filter(|c| !c.person.is_multiple_of(2)).collect();
    let base = by_class(question, &question.cases);
    let learned = by_class(question, &learning);
    let bench = Bench { question, learning, guessing, base, learned };
    let mut judgements = Vec::new();
    for column in columns {
        let table = bench.table(&dense(&column.values));
        judgements.push(bench.judge(&column.name, column.is_byte, table));
        if let Some((at, table)) = bench.threshold(column) {
            judgements.push(bench.judge(&format!("{} at {at}", column.name), column.is_byte, table));
        }
    }
    judgements.push(bench.judge("all together", false, bench.together(columns)));
    judgements
}

struct Bench<'a> {
    question: &'a Question,
    learning: Vec<Case>,
    guessing: Vec<Case>,
    base: Vec<Counts>,
    learned: Vec<Counts>,
}

fn by_class(question: &Question, cases: &[Case]) -> Vec<Counts> {
    let mut counts = vec![vec![0; question.answers]; question.classes];
    cases.iter().for_each(|c| counts[c.class][c.truth] += 1);
    counts
}

/// The values as numbers from zero on without gaps, in the same order.
fn dense(values: &[u64]) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    values.iter().map(|v| sorted.binary_search(v).unwrap_or(0)).collect()
}

impl Bench<'_> {
    /// The guesses of a table over class and value. `values` is by person.
    fn table(&self, values: &[usize]) -> Vec<Option<usize>> {
        let (answers, width) = (self.question.answers, values.iter().max().map_or(1, |v| v + 1));
        let cell = |c: &Case| (c.class * width + values[c.person]) * answers;
        let mut counts = vec![0u32; self.question.classes * width * answers];
        self.learning.iter().for_each(|c| counts[cell(c) + c.truth] += 1);
        let guess = |c: &Case| {
            let seen = &counts[cell(c)..cell(c) + answers];
            let enough = seen.iter().sum::<u32>() >= SEEN_MIN;
            if enough { most(seen, c.excluded) } else { most(&self.learned[c.class], c.excluded) }
        };
        self.guessing.iter().map(guess).collect()
    }

    /// The guesses on both sides of the threshold that does best where it was learned.
    fn threshold(&self, column: &Column) -> Option<(u64, Vec<Option<usize>>)> {
        let mut sorted: Vec<u64> = self.learning.iter().map(|c| column.values[c.person]).collect();
        sorted.sort_unstable();
        let mut cuts: Vec<u64> =
            (1..=THRESHOLDS).map(|i| sorted.get(i * sorted.len() / (THRESHOLDS + 1)).copied().unwrap_or(0)).collect();
        cuts.dedup();
        cuts.retain(|cut| sorted.first().is_some_and(|least| least < cut));
        let sides = |cut: u64| column.values.iter().map(|v| usize::from(*v >= cut)).collect::<Vec<_>>();
        let right = |cut: &u64| {
            let sides = sides(*cut);
            let mut counts = vec![0u32; self.question.classes * 2 * self.question.answers];
            let cell = |c: &Case| (c.class * 2 + sides[c.person]) * self.question.answers;
            self.learning.iter().for_each(|c| counts[cell(c) + c.truth] += 1);
            counts.chunks(self.question.answers).map(|seen| seen.iter().max().copied().unwrap_or(0)).sum::<u32>()
        };
        let best = cuts.into_iter().max_by_key(right)?;
        Some((best, self.table(&sides(best))))
    }

    /// All columns weighed as if they were independent.
    fn together(&self, columns: &[Column]) -> Vec<Option<usize>> {
        let answers = self.question.answers;
        let mut scores: Vec<Vec<f64>> = vec![vec![0.0; answers]; self.guessing.len()];
        let of = by_class(self.question, &self.learning);
        for (c, score) in self.guessing.iter().zip(&mut scores) {
            score.iter_mut().zip(&of[c.class]).for_each(|(s, n)| *s = (f64::from(*n) + 0.1).ln());
        }
        let totals: Counts = (0..answers).map(|a| of.iter().map(|counts| counts[a]).sum()).collect();
        for column in columns.iter().filter(|c| !c.is_byte) {
            let bins = bins(&column.values);
            let mut counts = vec![vec![0u32; answers]; BINS];
            self.learning.iter().for_each(|c| counts[bins[c.person]][c.truth] += 1);
            for (c, score) in self.guessing.iter().zip(&mut scores) {
                for (a, s) in score.iter_mut().enumerate() {
                    let n = f64::from(counts[bins[c.person]][a]);
                    *s += ((n + 1.0) / (f64::from(totals[a]) + BINS as f64)).ln();
                }
            }
        }
        let best = |(c, score): (&Case, Vec<f64>)| {
            (0..answers).filter(|a| c.excluded >> a & 1 == 0).max_by(|a, b| score[*a].total_cmp(&score[*b]))
        };
        self.guessing.iter().zip(scores).map(best).collect()
    }

    fn judge(&self, guess: &str, is_byte: bool, guesses: Vec<Option<usize>>) -> Judgement {
        let (mut right, mut base, mut won, mut lost) = (0, 0, 0, 0);
        for (c, guess) in self.guessing.iter().zip(guesses) {
            let (mine, majority) = (guess == Some(c.truth), most(&self.base[c.class], c.excluded) == Some(c.truth));
            right += usize::from(mine);
            base += usize::from(majority);
            won += usize::from(mine && !majority);
            lost += usize::from(!mine && majority);
        }
        let (question, people, chance) = (self.question.name.clone(), self.guessing.len(), luck(won, lost));
        Judgement { question, guess: guess.to_owned(), is_byte, people, right, base, won, lost, chance }
    }
}

/// Bins of about equal size.
fn bins(values: &[u64]) -> Vec<usize> {
    let dense = dense(values);
    let width = dense.iter().max().map_or(1, |v| v + 1);
    if width <= BINS {
        return dense;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    values.iter().map(|v| sorted.partition_point(|s| s < v) * BINS / sorted.len().max(1)).collect()
}

/// The chance that of `won + lost` throws of a coin at least `won` are heads.
fn luck(won: usize, lost: usize) -> f64 {
    let n = won + lost;
    let mut ln_choose = vec![0.0; n + 1];
    (0..n).for_each(|k| ln_choose[k + 1] = ln_choose[k] + ((n - k) as f64).ln() - ((k + 1) as f64).ln());
    (won..=n).map(|k| (ln_choose[k] - n as f64 * std::f64::consts::LN_2).exp()).sum::<f64>().min(1.0)
}

#[test]
fn luck_is_that_of_a_coin() {
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(near(luck(0, 0), 1.0) && near(luck(1, 0), 0.5) && near(luck(3, 1), 5.0 / 16.0) && luck(40, 0) < 1e-12);
}
