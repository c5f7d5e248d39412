//! Whether a drive may be erased or written: asked at the beginning and again right before each step that destroys.

use crate::device::Device;
use crate::device::world::World;
use crate::inventory::drives::Found;

/// The one drive with this serial number, where it may be touched; else why not.
///
/// # Errors
/// For people: none or several with that serial number, fabric, multipath, removable, read-only, in use.
pub fn find(world: &dyn World, serial: &str) -> Result<Found, String> {
    if serial.trim().is_empty() {
        return Err("the grant names a drive without a serial number".to_owned());
    }
    let mut matching: Vec<Found> = world
        .scan()
        .into_iter()
        .filter(|found| found.serial_number == serial)
        .collect();
    let (Some(found), None) = (matching.pop(), matching.pop()) else {
        let several = world
            .scan()
            .iter()
            .filter(|found| found.serial_number == serial)
            .count();
        return Err(format!("{several} drives have the serial number {serial}"));
    };
    if let Some(reason) = found.untouchable() {
        return Err(reason);
    }
    if let Some(user) = world.in_use(&found) {
        return Err(format!("in use: {user}"));
    }
    Ok(found)
}

/// Asks again, of sysfs and of the drive itself through the descriptor that will be written to.
///
/// # Errors
/// For people.
pub fn check(world: &dyn World, known: &Found, device: &Device) -> Result<(), String> {
    let now = find(world, &known.serial_number)?;
    if now.kernel_name != known.kernel_name || now.size_bytes != known.size_bytes {
        return Err(format!(
            "{} is {} of {} bytes now",
            known.serial_number, now.kernel_name, now.size_bytes
        ));
    }
    match device.serial_number() {
        Ok(Some(said)) if said != known.serial_number => {
            Err(format!("the drive says that its serial number is {said}"))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the drive does not say who it is: {error}")),
    }
}
