//! Numbers in the parameters of a request: one parser, which checks the limits too.

use std::fmt::Display;
use std::num::ParseIntError;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

/// Why a parameter is not an accepted number. The message names the parameter, its value, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value:?}; it must be a number {accepted}")]
pub(crate) struct NumberError {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) fault: Fault,
    accepted: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    NotANumber,
    TooSmall,
    TooLarge,
}

/// The whole number that the parameter `name` holds. `range` is `0..=MAX`, or `0..` if any size is meaningful.
///
/// # Errors
/// [`NumberError`] if the text is not a whole number or the number is out of range.
pub(crate) fn number<N>(
    name: &str,
    text: &str,
    range: impl RangeBounds<N>,
) -> Result<N, NumberError>
where
    N: FromStr<Err = ParseIntError> + PartialOrd + Display,
{
    let fault = match text.parse() {
        Ok(number) if range.contains(&number) => return Ok(number),
        Ok(number) if is_below(&number, &range) => Fault::TooSmall,
        Ok(_) => Fault::TooLarge,
        Err(_) => fault_of(text),
    };
    Err(NumberError {
        name: name.to_owned(),
        value: text.to_owned(),
        fault,
        accepted: accepted(&range),
    })
}

fn is_below<N: PartialOrd>(number: &N, range: &impl RangeBounds<N>) -> bool {
    match range.start_bound() {
        Bound::Included(start) => number < start,
        Bound::Excluded(start) => number <= start,
        Bound::Unbounded => false,
    }
}

/// The fault of a text that the type of the number cannot hold.
fn fault_of(text: &str) -> Fault {
    let (fault, digits) = match text.strip_prefix('-') {
        Some(digits) => (Fault::TooSmall, digits),
        None => (Fault::TooLarge, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Fault::NotANumber;
    }
    fault
}

fn accepted<N: Display>(range: &impl RangeBounds<N>) -> String {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(first), Bound::Included(last)) => format!("from {first} to {last}"),
        (Bound::Included(first), Bound::Unbounded) => format!("from {first} on"),
        (_, Bound::Included(last)) => format!("up to {last}"),
        _ => "in its range".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_outside_of_its_range_is_an_error_that_names_parameter_value_and_limits() {
        fn check(text: &str, range: impl RangeBounds<u32>, fault: Fault, message: &str) {
            let error = number("days", text, range).expect_err(text);
            assert_eq!((error.fault, error.to_string().as_str()), (fault, message));
        }
        let small = "days is \"0\"; it must be a number from 1 to 366";
        check("0", 1..=366, Fault::TooSmall, small);
        let large = "days is \"367\"; it must be a number from 1 to 366";
        check("367", 1..=366, Fault::TooLarge, large);
        let negative = "days is \"-1\"; it must be a number from 0 on";
        check("-1", 0.., Fault::TooSmall, negative);
        let huge = "days is \"4294967296\"; it must be a number from 0 on";
        check("4294967296", 0.., Fault::TooLarge, huge);
        for text in ["", "-", "+", "seven", "1.5", " 1", "1e3"] {
            let message = format!("days is {text:?}; it must be a number from 0 on");
            check(text, 0.., Fault::NotANumber, &message);
        }
    }

    #[test]
    fn both_ends_of_a_range_are_accepted() {
        assert_eq!(number("page", "1", 1..=9), Ok(1_usize));
        assert_eq!(number("page", "9", 1..=9), Ok(9_usize));
        assert_eq!(number("id", &u64::MAX.to_string(), 0..), Ok(u64::MAX));
    }
}
