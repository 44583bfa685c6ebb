//! Errors for people.

/// An error and what caused it, without what it has told already.
pub(crate) fn told(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::other("the disk is full");
        let error = anyhow::Error::from(inner).context("a: the disk is full");
        assert_eq!(told(&error), "a: the disk is full");
        let error = Err::<(), _>(std::io::Error::other("b")).context("a").expect_err("an error");
        assert_eq!(told(&error), "a: b");
    }
}
