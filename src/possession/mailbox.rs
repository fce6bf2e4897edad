//! Whose mailbox, whose phone: the spellings of an identifier that reach the same person have one budget.
//!
//! **For the budget only.** To everything else each spelling is an identifier of its own: what a mail server makes of a
//! local part is its own affair, and a wrong guess there would give somebody another one's mail. Here a wrong guess
//! costs two people who share the five codes an hour of one.
//!
//! | | |
//! |---|---|
//! | mail | upper case, dots in the local part, what follows a `+`; the domains of one provider that lead to the same mailbox |
//! | phone | Argentina's 9 and Mexico's 1 after the country code, which calls need or needed and messages do not |

use waymark_mapping::identifier::{Csi, Scheme};

/// Domains under which one provider delivers to the same mailbox, the first standing for all.
const DOMAINS: [&[&str]; 4] = [
    &["gmail.com", "googlemail.com"],
    &["icloud.com", "me.com", "mac.com"],
    &["proton.me", "protonmail.com", "protonmail.ch", "pm.me"],
    &["yandex.ru", "ya.ru", "yandex.com", "yandex.by", "yandex.kz", "yandex.com.tr"],
];
/// What a number may begin with, and what stands for it.
const NUMBERS: [(&str, &str); 2] = [("tel:+549", "tel:+54"), ("tel:+521", "tel:+52")];

/// One text for all spellings.
pub fn of(csi: &Csi) -> String {
    let exposed = csi.expose();
    if csi.scheme() == Scheme::Tel {
        let changed = NUMBERS.iter().find_map(|(from, to)| Some([to, exposed.strip_prefix(from)?].concat()));
        return changed.unwrap_or_else(|| exposed.to_owned());
    }
    let Some((local, domain)) = exposed.rsplit_once('@') else { return exposed.to_owned() };
    let (scheme, local) = local.split_once(':').unwrap_or(("mailto", local));
    // An address that begins with a plus has no other name.
    let person = local.split('+').next().filter(|p| !p.is_empty()).unwrap_or(local);
    let domain = DOMAINS.iter().find(|all| all.contains(&domain)).map_or(domain, |all| all[0]);
    format!("{scheme}:{}@{domain}", person.replace('.', "").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_one_mailbox_are_one_and_other_people_are_others() {
        let of = |text: &str| of(&Csi::parse(text).unwrap());
        for spelling in ["Ann.Lee", "annlee", "ANNLEE", "a.n.n.l.e.e", "annlee+news", "Ann.Lee+a+b"] {
            assert_eq!(of(&format!("mailto:{spelling}@post.example")), "mailto:annlee@post.example");
        }
        assert_eq!(of("mailto:ann.lee+x@googlemail.com"), of("mailto:AnnLee@gmail.com"));
        assert_eq!(of("mailto:ann@pm.me"), of("mailto:ann@protonmail.com"));
        assert_ne!(of("mailto:ann@post.example"), of("mailto:ann@mail.example"));
        assert_ne!(of("mailto:ann@post.example"), of("mailto:anne@post.example"));
        assert_ne!(of("mailto:+1@post.example"), of("mailto:+2@post.example"));
        assert_eq!(of("tel:+5491123456789"), of("tel:+541123456789"));
        assert_ne!(of("tel:+4915112345642"), of("tel:+4915112345643"));
    }
}
