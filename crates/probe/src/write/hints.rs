//! Which drive an image goes to.

use crate::inventory::drives::Found;
use corten_wire::RootDeviceHints;

const GIB: u64 = 1 << 30;

/// The one allowed drive that all hints match.
///
/// # Errors
/// For people: none matches, or several do.
pub fn choose(
    found: &[Found],
    hints: &RootDeviceHints,
    allowed: &[String],
) -> Result<Found, String> {
    let matching: Vec<&Found> = found
        .iter()
        .filter(|drive| allowed.contains(&drive.serial_number) && !drive.serial_number.is_empty())
        .filter(|drive| drive.untouchable().is_none())
        .filter(|drive| matches(drive, hints))
        .collect();
    // A card or soldered flash is meant only where nothing else is: machines that have one have it beside their drives.
    let drives: Vec<&Found> = matching
        .iter()
        .copied()
        .filter(|drive| drive.transport != "mmc")
        .collect();
    let matching = if drives.is_empty() { matching } else { drives };
    match matching[..] {
        [one] => Ok(one.clone()),
        [] => Err("no drive that may be written matches the hints".to_owned()),
        _ => {
            let names: Vec<&str> = matching
                .iter()
                .map(|drive| drive.serial_number.as_str())
                .collect();
            Err(format!(
                "{} drives match the hints: {}",
                names.len(),
                names.join(", ")
            ))
        }
    }
}

fn matches(drive: &Found, hints: &RootDeviceHints) -> bool {
    let name = |hint: &String| {
        // A link below /dev/disk is followed, as far as this system made such links.
        let node = std::fs::canonicalize(hint).unwrap_or_else(|_| hint.into());
        node.file_name() == Some(drive.kernel_name.as_ref())
    };
    let model = |hint: &String| {
        drive
            .model
            .to_ascii_lowercase()
            .contains(&hint.to_ascii_lowercase())
    };
    hints.device_name.as_ref().is_none_or(name)
        && hints
            .serial_number
            .as_ref()
            .is_none_or(|hint| *hint == drive.serial_number)
        && hints.wwn.as_ref().is_none_or(|hint| {
            drive
                .wwid
                .as_ref()
                .is_some_and(|wwid| plain(wwid) == plain(hint))
        })
        && hints.model.as_ref().is_none_or(model)
        && hints
            .min_size_gigabytes
            .is_none_or(|least| drive.size_bytes >= least.saturating_mul(GIB))
        && hints
            .max_size_gigabytes
            .is_none_or(|most| drive.size_bytes <= most.saturating_mul(GIB))
        && hints
            .rotational
            .is_none_or(|rotational| drive.rotational == rotational)
}

/// A world-wide name without what different tools put before it.
fn plain(wwn: &str) -> String {
    let lower = wwn.trim().to_ascii_lowercase();
    ["naa.", "eui.", "wwn-", "nvme-", "0x"]
        .into_iter()
        .fold(lower, |text, prefix| {
            text.strip_prefix(prefix).map(str::to_owned).unwrap_or(text)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_same_drive_are_the_same() {
        assert_eq!(plain("naa.5000C5"), plain("0x5000c5"));
        assert_eq!(plain("wwn-0x5000c5"), plain("5000c5"));
    }
}
