//! Numbers and text as people read them, in charts and on pages.

/// A number with four significant digits, as people write it: `0.09612`, `43.21`, `17,379`, `2.000×10⁹`.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "not finite".into(),
        0.0 => "0".into(),
        size if (1e-3..1e6).contains(&size) => decimal(value, 3 - size.log10().floor() as i32),
        _ => scientific(value, 3),
    }
}

/// A count, thousands separated.
pub fn integer(value: u64) -> String {
    decimal(value as f64, 0)
}

/// `value` with `places` after the point, thousands separated.
pub fn decimal(value: f64, places: i32) -> String {
    let text = format!("{value:.*}", places.clamp(0, 12) as usize);
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(whole.len() - whole.trim_start_matches('-').len());
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{}{grouped}{rest}", sign.replace('-', "−"))
}

/// `value` as a number between 1 and 10 with `places` after the point, times a power of ten.
pub fn scientific(value: f64, places: i32) -> String {
    let text = format!("{value:.*e}", places.clamp(0, 12) as usize);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let superscript = |character: char| match character.to_digit(10) {
        Some(digit) => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit as usize],
        None => '⁻',
    };
    format!("{}×10{}", mantissa.replace('-', "−"), exponent.chars().map(superscript).collect::<String>())
}

/// A number without the zeros at the end of its decimals.
pub fn short(number: String) -> String {
    let (digits, power) = number.split_at(number.find('×').unwrap_or(number.len()));
    match digits.contains('.') {
        true => format!("{}{power}", digits.trim_end_matches('0').trim_end_matches('.')),
        false => number,
    }
}

/// The first `length` characters of a text that is longer, with an ellipsis.
pub fn cut(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.into();
    }
    text.chars().take(length - 1).chain(['…']).collect()
}

/// A text for use in HTML and XML, in elements and in attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\t' | '\n' => escaped.push(character),
            // XML has no place for the other control characters, and none for these two.
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}')
            }
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_sensible_digits() {
        let cases = [
            (0.0, "0"),
            (0.096123, "0.09612"),
            (43.2149, "43.21"),
            (17379.4, "17,379"),
            (-1234.5, "−1,234"),
            (2e9, "2.000×10⁹"),
            (-1.5e-12, "−1.500×10⁻¹²"),
            (f64::NAN, "not finite"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!((integer(7), integer(1_234_567)), ("7".into(), "1,234,567".into()));
        assert_eq!(short(number(2e9)), "2×10⁹");
    }

    #[test]
    fn text_is_escaped_and_cut() {
        assert_eq!(
            escape("a <b> & \"c\" 'd'\n\u{1}\u{ffff}é"),
            "a &lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\n\u{fffd}\u{fffd}é"
        );
        assert_eq!((cut("abcd", 4), cut("äbcde", 4)), ("abcd".into(), "äbc…".into()));
    }
}
