//! Digits written by hand: a generator that shares the cores with the service should cost little beside it.

const PAIRS: &[u8; 200] = b"\
    0001020304050607080910111213141516171819\
    2021222324252627282930313233343536373839\
    4041424344454647484950515253545556575859\
    6061626364656667686970717273747576777879\
    8081828384858687888990919293949596979899";

/// The number as it is: `7`.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    push_padded(out, number, 1);
}

/// The number with leading zeros up to `width`, at most 20: `0000007`.
pub fn push_padded(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number >= 10 {
        let pair = (number % 100) as usize * 2;
        number /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if number > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + number as u8;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

/// 16 characters: the id of an event.
pub fn push_hex(out: &mut Vec<u8>, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 16];
    for (at, byte) in number.to_be_bytes().into_iter().enumerate() {
        text[at * 2] = DIGITS[usize::from(byte >> 4)];
        text[at * 2 + 1] = DIGITS[usize::from(byte & 15)];
    }
    out.extend_from_slice(&text);
}

/// The number after `name` in a JSON text, `"counted":998` for `"counted":`; 0 where it is not.
pub fn number_after(text: &[u8], name: &[u8]) -> u64 {
    let Some(at) = memchr::memmem::find(text, name) else { return 0 };
    let digits = text[at + name.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_format() {
        for number in [0, 1, 9, 10, 11, 99, 100, 101, 999, 1_000, 12_345_678, u64::MAX] {
            for width in [1, 2, 7, 20] {
                let mut out = Vec::new();
                push_padded(&mut out, number, width);
                assert_eq!(String::from_utf8(out).unwrap(), format!("{number:0width$}"));
            }
            let mut out = Vec::new();
            push_hex(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{number:016x}"));
        }
    }

    #[test]
    fn numbers_are_read_where_they_stand() {
        let text = br#"{"counted":998,"duplicate":2,"late":0}"#;
        assert_eq!(number_after(text, b"\"counted\":"), 998);
        assert_eq!(number_after(text, b"\"late\":"), 0);
        assert_eq!(number_after(text, b"\"erased\":"), 0);
    }
}
