//! Who is in the story, and under which numbers: none that is in the people file.

use std::collections::HashSet;

use waymark_mapping::{identifier::Csi, names::Domain};

use super::{DemoError, people::Person};

/// Bob's number and the next, from the range of a thousand that is kept for fiction, unless the people file has them.
const FIRST_CHOICE: u32 = 42;
/// Where Bob's phone is.
pub const BLUEBIRD: &str = "bluebird.example";
/// Where his tablet is.
pub const COURIER: &str = "courier.example";
/// Where he never was.
pub const NIGHTJAR: &str = "nightjar.example";

/// Who is in the story.
#[derive(Clone, Debug)]
pub struct Cast {
    /// Bob's number.
    pub bob: Csi,
    /// As people write it.
    pub bob_typed: String,
    /// A number that nobody registered.
    pub nobody: Csi,
}

impl Cast {
    /// Numbers that are nobody's in the people file.
    ///
    /// # Errors
    /// [`DemoError::Wrong`] if the file has the whole range.
    pub fn beside(people: &[Person]) -> Result<Self, DemoError> {
        let taken: HashSet<&Csi> = people.iter().map(|p| &p.csi).collect();
        let numbers = (0..1000).map(|i| (FIRST_CHOICE + i) % 1000);
        let mut free = numbers.filter_map(|n| Some((n, Csi::parse(&format!("tel:+493023125{n:03}")).ok()?)));
        let mut next = || {
            let found = free.find(|(_, csi)| !taken.contains(csi));
            found.ok_or_else(|| DemoError::Wrong("the people file leaves no number for the story".to_owned()))
        };
        let ((n, bob), (_, nobody)) = (next()?, next()?);
        Ok(Self { bob, bob_typed: format!("+49 30 23125 {n:03}"), nobody })
    }
}

/// The MSPs of the story.
pub fn msps() -> Vec<Domain> {
    [BLUEBIRD, COURIER, NIGHTJAR].into_iter().filter_map(Domain::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cast_steps_aside_for_the_people() {
        let cast = Cast::beside(&[]).unwrap();
        assert_eq!((cast.bob.expose(), cast.bob_typed.as_str()), ("tel:+493023125042", "+49 30 23125 042"));
        let person = |csi: &Csi| Person { csi: csi.clone(), mappings: vec![] };
        let aside = Cast::beside(&[person(&cast.bob), person(&cast.nobody)]).unwrap();
        assert_eq!((aside.bob.expose(), aside.nobody.expose()), ("tel:+493023125044", "tel:+493023125045"));
        let all: Vec<Person> =
            (0..1000).map(|n| person(&Csi::parse(&format!("tel:+493023125{n:03}")).unwrap())).collect();
        assert!(Cast::beside(&all).is_err());
    }
}
