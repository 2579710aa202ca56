//! E-mail addresses: which texts are one (RFC 5321, and RFC 6531 for letters of any script), and which are the same one.

use std::borrow::Cow;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// RFC 5321, 4.5.3.1.3: a path has 256 bytes, two of them brackets.
const ADDRESS_LIMIT: usize = 254;
/// RFC 5321, 4.5.3.1.1, in bytes.
const LOCAL_LIMIT: usize = 64;
/// RFC 5322, 3.2.3: these and letters and digits may stand before the @ without quotes.
const ATOM: &str = "!#$%&'*+-/=?^_`{|}~";
/// RFC 5892, 2.6: taken in domains although they are no letters, marks or decimal digits.
const DOMAIN_EXCEPTIONS: [char; 11] = [
    '\u{b7}', '\u{375}', '\u{5f3}', '\u{5f4}', '\u{6fd}', '\u{6fe}', '\u{f0b}', '\u{200c}', '\u{200d}',
    '\u{3007}', '\u{30fb}',
];

/// The two sides of an address, without the ways in which each can be written differently.
struct Address<'a> {
    /// Without quotes.
    local: Cow<'a, str>,
    /// In ASCII and lower case.
    domain: Cow<'a, str>,
}

/// What is wrong with the text, if it is no e-mail address.
pub(crate) fn check(text: &str) -> Result<(), &'static str> {
    parse(text).map(|_| ())
}

/// The same text for all ways of writing an address: in upper or lower case, composed or decomposed, with or without
/// needless quotes, the domain in letters of its script or in ASCII.
///
/// # Errors
/// What is wrong with the text, if it is no e-mail address.
pub fn identity(text: &str) -> Result<String, &'static str> {
    let Address { local, domain } = parse(text)?;
    let local =
        if local.is_ascii() { local.to_ascii_lowercase() } else { local.nfd().map(fold).nfc().collect() };
    Ok(format!("{local}@{domain}"))
}

/// As Unicode's simple case folding: one character for one, so that `ß` and `ẞ` are the same, but `ß` and `ss` are not.
fn fold(c: char) -> char {
    fn only<I: Iterator<Item = char> + ExactSizeIterator>(mut mapped: I, c: char) -> char {
        if mapped.len() == 1 { mapped.next().unwrap_or(c) } else { c }
    }
    // By way of upper case, which the final sigma shares with the other one. The dotless i is a letter of its own.
    let upper = if c == 'ı' { c } else { only(c.to_uppercase(), c) };
    only(upper.to_lowercase(), upper)
}

fn parse(text: &str) -> Result<Address<'_>, &'static str> {
    let (local, domain) = text.rsplit_once('@').ok_or("has no @")?;
    if text.len() > ADDRESS_LIMIT {
        return Err("has more than 254 bytes");
    }
    if local.len() > LOCAL_LIMIT {
        return Err("has more than 64 bytes before the @");
    }
    let local = match local.strip_prefix('"') {
        Some(quoted) => unquoted(quoted).map(Cow::Owned),
        None => local.split('.').all(is_atom).then_some(Cow::Borrowed(local)),
    };
    let local = local.ok_or("is not valid before the @ (RFC 5321, 4.1.2)")?;
    let domain = ascii_domain(domain).ok_or("has no valid domain after the @ (RFC 5321, 4.1.2)")?;
    Ok(Address { local, domain })
}

fn is_atom(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || ATOM.contains(c) || is_international(c);
    !text.is_empty() && text.chars().all(valid)
}

/// What a quoted string means; `text` begins behind its first quote.
fn unquoted(text: &str) -> Option<String> {
    let mut content = String::new();
    let mut chars = text.strip_suffix('"')?.chars();
    while let Some(c) = chars.next() {
        let valid = match c {
            '"' => None,
            '\\' => chars.next().filter(|escaped| matches!(escaped, ' '..='~')),
            c => Some(c).filter(|c| matches!(c, ' '..='~') || is_international(*c)),
        };
        content.push(valid?);
    }
    (!content.is_empty()).then_some(content)
}

/// RFC 6531 lets all characters beyond ASCII stand before the @. What cannot be seen, or is none yet, is no part of a name:
/// controls, blanks, and formatting other than the joiners that some scripts need.
fn is_international(c: char) -> bool {
    let seen = || {
        !matches!(c.general_category_group(), GeneralCategoryGroup::Other | GeneralCategoryGroup::Separator)
    };
    !c.is_ascii() && (seen() || matches!(c, '\u{200c}' | '\u{200d}'))
}

/// Labels of letters, digits and hyphens (RFC 5321, 4.1.2), of any script (RFC 5890), in ASCII; no literal address.
fn ascii_domain(domain: &str) -> Option<Cow<'_, str>> {
    let valid = |c: char| {
        c.is_ascii()
            || matches!(c.general_category_group(), GeneralCategoryGroup::Letter | GeneralCategoryGroup::Mark)
            || c.general_category() == GeneralCategory::DecimalNumber
            || DOMAIN_EXCEPTIONS.contains(&c)
    };
    if !domain.chars().all(valid) {
        return None;
    }
    let ascii = Uts46::new().to_ascii(
        domain.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    // RFC 3696, 2: no top-level domain is a number; an IP address without brackets looks like one.
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    ascii.ok().filter(|domain| !domain.rsplit('.').next().is_none_or(is_number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_a_mail_system_can_have_is_taken() {
        let label = "x".repeat(63);
        let longest_domain = [&label[..]; 2].join(".") + "." + &"x".repeat(254 - 64 - 1 - 2 * 64);
        for good in [
            "a@example.org",
            "ada.l33t+x_y-z@sub.example.co",
            "1.2.3@example.org",
            "UPPER@EXAMPLE.ORG",
            "!#$%&'*+-/=?^_`{|}~@example.org",
            "a@123.example",
            "a@1-2--3.example",
            "a@r3---sn.example",
            "postmaster@localhost",
            "a@xn--bcher-kva.example",
            &format!("a@{label}.org"),
            &format!("{}@x.org", "x".repeat(64)),
            &format!("{}@{longest_domain}", "x".repeat(64)),
            &format!("{}@x.org", "ü".repeat(32)),
            r#""a b@c"@example.org"#,
            r#""a\"b\\c"@example.org"#,
            // Composed and decomposed.
            "jos\u{e9}@b\u{fc}cher.example",
            "jose\u{301}@bu\u{308}cher.example",
            "用户@例子.广告",
            "квіточка@пошта.укр",
            "사용자@예시.한국",
            "θσερ@εχαμπλε.ψομ",
            "अजय@डाटा.भारत",
            "ผู้ใช้@ตัวอย่าง.ไทย",
            "مستخدم@مثال.إختبار",
            "משתמש@דוגמה.טעסט",
            "மின்னஞ்சல்@எடுத்துக்காட்டு.இந்தியா",
            "ক্ষ@উদাহরণ.বাংলা",
            "ユーザー@ドメイン・例.テスト",
            "l·l@paral·lel.cat",
            // With a zero-width non-joiner, as Persian needs it.
            "نامه\u{200c}ای@نامه\u{200c}ای.ایران",
            "☺@example.org",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_no_mail_system_can_have_is_refused() {
        let many = ["x".repeat(61).as_str(); 5].join(".");
        let mut bad: Vec<String> = [
            "",
            "@",
            "a",
            "a@",
            "@b.org",
            "a b@b.org",
            "a@b@c",
            "A <a@b.org>",
            "<a@b.org>",
            "a@[127.0.0.1]",
            "a@[IPv6:::1]",
            "a@127.0.0.1",
            "a..b@c.org",
            ".a@c.org",
            "a.@c.org",
            " a@c.org",
            "a@c.org ",
            "a@c.org\n",
            "a@c.org\r\nBcc: d@e.org",
            "a(b)@c.org",
            "a,b@c.org",
            "a:b@c.org",
            "a\u{0}@c.org",
            "a\t@c.org",
            "a\u{7f}@c.org",
            "a\u{85}@c.org",
            "a\u{a0}b@c.org",
            "a\u{2028}b@c.org",
            "a\u{202e}b@c.org",
            "a\u{feff}@c.org",
            "a\u{e000}@c.org",
            "a\u{ffff}@c.org",
            "\"a\r\nBcc: x\"@c.org",
            "\"a\tb\"@c.org",
            "\"a\\\u{7}b\"@c.org",
            "\"a\"b\"@c.org",
            "\"a\\\"@c.org",
            "\"\"@c.org",
            "\"@c.org",
            "\"a@c.org",
            "a\"b\"@c.org",
            "\"a\".b@c.org",
            "a@.c.org",
            "a@c..org",
            "a@c.org.",
            "a@-c.org",
            "a@c-.org",
            "a@c.org-",
            "a@c_d.org",
            "a@xn--\u{fc}.org",
            "a@xn--a.org",
            "a@xn---.org",
            "a@ex\u{ad}ample.org",
            "a@ex\u{200b}ample.org",
            "a@c。org",
            "a@☕.org",
            "a@x².org",
            "a@½.org",
            "a@\u{301}x.org",
            "a@مثالx.org",
            "a@c\u{202e}.org",
        ]
        .map(str::to_owned)
        .to_vec();
        bad.extend("!#$%&'*+/=?^`{|}~\"(),:;<>@[\\] \t\r\n\0".chars().map(|c| format!("a@exam{c}ple.org")));
        bad.extend([
            format!("a@{}.org", "x".repeat(64)),
            format!("a@{}.org", "ü".repeat(60)),
            format!("a@{many}"),
            format!("{}@x.org", "x".repeat(65)),
            format!("{}@x.org", "ü".repeat(33)),
            format!("a@{}.org", "x.".repeat(130)),
        ]);
        for bad in bad {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_is_the_same_in_each_of_its_spellings() {
        for spellings in [
            &["a.b@example.org", "A.b@Example.ORG", "\"a.b\"@example.org", "\"A\\.b\"@example.org"][..],
            &["\u{fc}@x.org", "\u{dc}@x.org", "u\u{308}@x.org", "U\u{308}@X.org"],
            &["ß@x.org", "ẞ@x.org"],
            &["д@x.org", "Д@x.org"],
            &["νίκος@x.org", "ΝΊΚΟΣ@x.org", "νίκοσ@x.org"],
            &["\u{390}@x.org", "\u{3aa}\u{301}@x.org", "Ι\u{308}\u{301}@x.org"],
            &["Å@x.org", "å@x.org", "\u{212b}@x.org", "A\u{30a}@x.org"],
            &["ა@x.org", "Ა@x.org"],
            &["a@bücher.example", "a@BÜCHER.example", "a@bu\u{308}cher.example", "a@XN--bcher-kva.Example"],
        ] {
            let identities: Vec<String> = spellings.iter().map(|text| identity(text).unwrap()).collect();
            assert!(identities.iter().all(|one| *one == identities[0]), "{spellings:?}: {identities:?}");
        }
    }

    #[test]
    fn addresses_of_different_letters_are_different() {
        let all = [
            "ss@x.org",
            "ß@x.org",
            "u@x.org",
            "ü@x.org",
            "ue@x.org",
            "i@x.org",
            "ı@x.org",
            "a@xy.org",
            "a@x.y.org",
        ];
        let identities: std::collections::HashSet<String> =
            all.iter().map(|text| identity(text).unwrap()).collect();
        assert_eq!(identities.len(), all.len(), "{identities:?}");
    }
}
