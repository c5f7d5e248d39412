//! The in-band agent: PID 1 of the discovery ramdisk, or an ordinary process.
