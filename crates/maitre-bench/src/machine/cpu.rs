//! How much processor this process has used: a client that is busy all the time measures itself.

/// Seconds of processor time of this process so far, user and system; `None` where `/proc` is not.
pub(crate) fn cpu_seconds() -> Option<f64> {
    parse(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// Fields 14 and 15 of `proc(5)`'s `stat`, in clock ticks: 100 a second for every Linux process
/// (`USER_HZ`, part of the kernel's interface). The second field is the program's name in
/// parentheses and may hold anything, so counting starts behind the last one.
fn parse(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_name_may_hold_anything() {
        let stat = "7 (a) b ( c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0";
        assert_eq!(parse(stat), Some(3.0));
        assert_eq!(parse("7 (a) S 1"), None);
    }
}
