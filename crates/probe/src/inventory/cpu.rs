//! Processors, from `/proc/cpuinfo` and SMBIOS.

use super::root::Root;
use super::smbios::Tables;
use corten_wire::registration::Cpu;
use std::collections::{BTreeMap, BTreeSet};

/// One entry a socket.
#[must_use]
pub fn processors(root: &Root, tables: &Tables) -> Vec<Cpu> {
    let mut cpus = from_cpuinfo(&root.text("proc/cpuinfo").unwrap_or_default());
    if cpus.is_empty() {
        cpus = tables
            .processors
            .iter()
            .enumerate()
            .map(|(id, processor)| Cpu {
                id: i64::try_from(id).unwrap_or_default(),
                total_cores: processor.cores,
                total_hardware_threads: processor.threads,
                vendor: processor.manufacturer.clone(),
                model: processor.version.clone(),
                ..Cpu::default()
            })
            .collect();
    }
    for (cpu, processor) in cpus.iter_mut().zip(&tables.processors) {
        cpu.max_speed_mhz = processor.max_speed_mhz;
        cpu.socket.clone_from(&processor.socket);
    }
    cpus
}

#[derive(Default)]
struct Socket {
    cores: BTreeSet<String>,
    threads: u32,
    vendor: String,
    model: String,
    flags: Vec<String>,
}

fn from_cpuinfo(text: &str) -> Vec<Cpu> {
    let mut sockets: BTreeMap<i64, Socket> = BTreeMap::new();
    for block in text.split("\n\n") {
        let values: BTreeMap<&str, &str> = block
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let Some(processor) = values.get("processor") else {
            continue;
        };
        let of = |key: &str| values.get(key).copied().unwrap_or_default();
        let id = of("physical id").parse().unwrap_or(0);
        let socket = sockets.entry(id).or_default();
        socket.threads += 1;
        // A machine that names no cores (arm64, some hypervisors) has one a thread.
        let core = values.get("core id").unwrap_or(processor);
        socket.cores.insert((*core).to_owned());
        if socket.flags.is_empty() {
            let flags = [of("flags"), of("Features")].concat();
            socket.flags = flags.split_whitespace().map(str::to_owned).collect();
            socket.vendor = [of("vendor_id"), of("CPU implementer")].concat();
            socket.model = of("model name").to_owned();
        }
    }
    sockets
        .into_iter()
        .map(|(id, socket)| Cpu {
            id,
            total_cores: u32::try_from(socket.cores.len()).unwrap_or(u32::MAX),
            total_hardware_threads: socket.threads,
            vendor: socket.vendor,
            model: socket.model,
            capabilities: socket.flags,
            ..Cpu::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_of_a_core_are_one_core() {
        let block = |number: u32, core: u32| {
            format!(
                "processor\t: {number}\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nphysical id\t: 0\ncore id\t: {core}\nflags\t\t: fpu avx2\n"
            )
        };
        let cpus = from_cpuinfo(&[block(0, 0), block(1, 1), block(2, 0), block(3, 1)].join("\n"));
        assert_eq!(cpus.len(), 1);
        assert_eq!(
            (cpus[0].total_cores, cpus[0].total_hardware_threads),
            (2, 4)
        );
        assert_eq!(cpus[0].capabilities, ["fpu", "avx2"]);
    }
}
