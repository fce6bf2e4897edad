//! Mappings and consents that break one rule, next to those that keep it.

use serde_json::{Value, json};
use waymark_log::time::UnixMillis;
use waymark_mapping::{
    commitment::Salt,
    mapping::{Attestation, Consent, MAPPING_LIFETIME_MS_MAX, Mapping, MappingRefused, Purpose},
    names::{Account, MaybeDomain},
    wire::{decode, encode},
};

use crate::files::{array, bytes, hex, list, millis, settle, text};
use crate::hand;
use crate::refused::{kebab, rule};
use crate::vectors_world::{
    BEN, DAY_MS, csi, domain,
    life::{Consented, Life},
    origin, secret, signed,
};

fn name_of(refused: MappingRefused) -> String {
    kebab(&format!("{refused:?}"))
}

fn good(name: &str, mapping: &Mapping) -> Value {
    assert_eq!(mapping.verify(&origin()), Ok(()), "{name}");
    json!({ "name": name, "mapping": hex(encode(mapping)) })
}

fn bad(why: &str, mapping: &Mapping, verdict: MappingRefused) -> Value {
    assert_eq!(mapping.verify(&origin()), Err(verdict), "{why}");
    json!({ "why": why, "mapping": hex(encode(mapping)), "verdict": name_of(verdict) })
}

/// Ann's first mapping, signed again after a change to it.
fn changed(change: impl FnOnce(&mut Mapping)) -> Mapping {
    let mut mapping = Life::first().consents()[0].mapping.clone();
    change(&mut mapping);
    signed(mapping, "ann phone")
}

/// The same after a change to its attestation, which the prover has signed.
fn attested(change: impl FnOnce(&mut Attestation)) -> Mapping {
    changed(|m| {
        change(&mut m.attestation);
        m.attestation = signed(m.attestation.clone(), "dp.example");
    })
}

fn validity() -> Value {
    let unchanged = changed(|_| {});
    let latest = unchanged.attestation.time.plus_ms(MAPPING_LIFETIME_MS_MAX).floor_day();
    let until = |not_after: UnixMillis| changed(|m| m.not_after = not_after);
    let validity = MappingRefused::Validity;
    rule(
        "A mapping ends with a UTC day, after it begins and at most 180 days after the proof of possession.",
        vec![good("with the last day that it may", &until(latest)), good("with an earlier day", &unchanged)],
        vec![
            bad("a millisecond after a day has begun", &until(unchanged.not_after.plus_ms(1)), validity),
            bad("a millisecond before a day begins", &until(UnixMillis::new(unchanged.not_after.get() - 1)), validity),
            bad(
                "180 days after the proof, to the millisecond",
                &until(unchanged.attestation.time.plus_ms(MAPPING_LIFETIME_MS_MAX)),
                validity,
            ),
            bad("a day too late", &until(latest.plus_ms(DAY_MS)), validity),
            bad("it ends when it begins", &changed(|m| m.not_before = m.not_after), validity),
        ],
    )
}

fn attestation() -> Value {
    let other = MappingRefused::OtherAttestation;
    rule(
        "The attestation is for this identifier, key and tenure, and for control.",
        vec![good("it is", &attested(|_| {}))],
        vec![
            bad("another identifier", &attested(|a| a.csi = csi(BEN)), other),
            bad("another key", &attested(|a| a.recipient = secret("carol phone").public()), other),
            bad("another tenure", &attested(|a| a.tenure = 1), other),
            bad("for a view", &attested(|a| a.purpose = Purpose::View), other),
        ],
    )
}

fn signatures() -> Value {
    let unchanged = changed(|_| {});
    let by_another = signed(unchanged.clone(), "carol phone");
    let by_another_prover = changed(|m| m.attestation = signed(m.attestation.clone(), "strict.example"));
    rule(
        "The mapping is signed by its recipient key, the attestation by its prover key.",
        vec![good("both are", &unchanged)],
        vec![
            bad("the mapping by another key", &by_another, MappingRefused::Recipient),
            bad("the attestation by another key", &by_another_prover, MappingRefused::Prover),
        ],
    )
}

fn opt_out() -> Value {
    let opt_out = Life::opted_out().last().added[0].clone();
    let mut with_account = opt_out.clone();
    with_account.account = Account::parse("mimi://chat.example/u/ann").unwrap();
    let with_tags = changed(|m| (m.msp, m.account) = (MaybeDomain::NONE, Account::NONE));
    rule(
        "An opt-out names nothing.",
        vec![good("an opt-out", &opt_out)],
        vec![
            bad("with an account", &signed(with_account, "ann phone"), MappingRefused::OptOut),
            bad("with a tag and a fingerprint", &with_tags, MappingRefused::OptOut),
        ],
    )
}

#[test]
fn mappings() {
    let file = settle(
        "mappings",
        "Mappings that are good, and mappings that are not, by what is wrong with them.",
        &json!({ "origin": origin().as_str(), "rules": [validity(), attestation(), signatures(), opt_out()] }),
    );
    let read = |case: &Value| decode::<Mapping>("mapping", &bytes(&case["mapping"])).unwrap().verify(&origin());
    for rule in list(&file["rules"]) {
        for case in list(&rule["accepted"]) {
            assert_eq!(read(case), Ok(()), "{}", case["name"]);
        }
        for case in list(&rule["refused"]) {
            assert_eq!(read(case).map_err(name_of), Err(text(&case["verdict"]).to_owned()), "{}", case["why"]);
        }
    }
}

// Consents.

/// When a consent ends that is signed at these times: computed elsewhere, with another calendar.
const EXPIRIES: [(&str, u64, u64); 7] = [
    ("2026-09-21T14:13:20Z", 1_790_000_000_000, 1_806_537_600_000),
    ("2026-08-31T23:59:59Z", 1_788_220_799_000, 1_803_859_200_000),
    ("2026-09-01T00:00:00Z", 1_788_220_800_000, 1_806_537_600_000),
    ("2026-12-31T12:00:00Z", 1_798_718_400_000, 1_814_400_000_000),
    ("2028-02-29T12:00:00Z", 1_835_438_400_000, 1_851_379_200_000),
    ("2026-05-31T00:00:00Z", 1_780_185_600_000, 1_796_083_200_000),
    ("2026-06-01T00:00:00Z", 1_780_272_000_000, 1_798_761_600_000),
];

fn consent_case(name: (&str, &str), of: &Consented, consent: &Consent) -> Value {
    json!({
        name.0: name.1, "consent": hex(encode(consent)), "salt": hex(of.salt().0), "mapping": hex(encode(&of.mapping)),
    })
}

fn is_under(case: &Value) -> bool {
    let consent: Consent = decode("consent", &bytes(&case["consent"])).unwrap();
    let mapping: Mapping = decode("mapping", &bytes(&case["mapping"])).unwrap();
    consent.is_for(&mapping, &Salt(array(&case["salt"])), &origin())
}

fn under_a_mapping() -> Value {
    let life = Life::first();
    let [of, other] = life.consents() else { unreachable!("two consents") };
    let consent = &of.consent;
    let until = |expiry: UnixMillis| signed(Consent { expiry, ..consent.clone() }, "wire.example");
    let by_another = signed(consent.clone(), "chat.example");
    let of_another = signed(
        Consent { msp: domain("chat.example"), msp_key: secret("chat.example").public(), ..consent.clone() },
        "chat.example",
    );
    let counted_in_days = consent.expiry.plus_ms(DAY_MS);
    let from_the_proof = of.mapping.attestation.time.plus_ms(210 * DAY_MS);
    let bad = |why: &str, of: &Consented, consent: &Consent| consent_case(("why", why), of, consent);
    rule(
        "A consent is under a mapping: of its MSP, over its bytes and the salt, signed, and it ends with a UTC month.",
        vec![
            consent_case(("name", "it ends with a month"), of, consent),
            consent_case(("name", "it ends with another month"), of, &until(consent.expiry.month_after(1))),
        ],
        vec![
            bad("a millisecond after a month has begun", of, &until(consent.expiry.plus_ms(1))),
            bad("a millisecond before a month begins", of, &until(UnixMillis::new(consent.expiry.get() - 1))),
            bad("with a UTC day that begins no month", of, &until(counted_in_days)),
            bad("210 days after the proof of possession", of, &until(from_the_proof)),
            bad("it ends when the mapping does", of, &until(of.mapping.not_after)),
            bad("signed by another key", of, &by_another),
            bad("of another MSP", of, &of_another),
            bad("of another mapping", other, consent),
        ],
    )
}

#[test]
fn consents() {
    let file = settle(
        "consents",
        "When a consent ends by when it is signed, and consents that are under a mapping and that are not.",
        &json!({
            "origin": origin().as_str(),
            "expiries": EXPIRIES.map(|(signed, signed_ms, expiry_ms)| {
                json!({ "signed": signed, "signed_ms": signed_ms, "expiry_ms": expiry_ms })
            }),
            "rules": [under_a_mapping()],
        }),
    );
    for case in list(&file["expiries"]) {
        assert_eq!(Consent::expiry_of(millis(&case["signed_ms"])), millis(&case["expiry_ms"]), "{case}");
    }
    for rule in list(&file["rules"]) {
        for case in list(&rule["accepted"]) {
            assert!(is_under(case), "{}", case["name"]);
            assert_eq!(hand::hmac(&bytes(&case["salt"]), &bytes(&case["mapping"])), blinded_by_hand(case));
        }
        for case in list(&rule["refused"]) {
            assert!(!is_under(case), "{}", case["why"]);
        }
    }
}

/// The digest in a consent: behind its format, the MSP's name and the key of 36 bytes.
fn blinded_by_hand(case: &Value) -> Vec<u8> {
    let consent = bytes(&case["consent"]);
    let at = 1 + 1 + usize::from(consent[1]) + 36;
    consent[at..at + 32].to_vec()
}
