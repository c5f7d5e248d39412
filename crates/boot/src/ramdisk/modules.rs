//! Which kernel modules a ramdisk needs, in the order of loading: kmod's `modules.dep`, `modules.softdep`, `modules.alias` and `modules.builtin`, read.

use std::collections::{BTreeMap, BTreeSet};

/// The index that depmod made of a kernel's modules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// Path (relative to the modules' folder) by name.
    paths: BTreeMap<String, String>,
    /// What each needs, by path.
    needs: BTreeMap<String, Vec<String>>,
    /// Names that want others loaded first.
    before: BTreeMap<String, Vec<String>>,
    /// Names behind an alias without wildcards, as soft dependencies use.
    aliases: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
}

/// What was found for a list of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Paths in the order of loading, relative to the modules' folder.
    pub paths: Vec<String>,
    /// Names that are part of the kernel.
    pub builtin: Vec<String>,
    /// Names that this kernel does not have.
    pub missing: Vec<String>,
}

/// Name of a module by its file: `kernel/drivers/net/virtio-net.ko.xz` is `virtio_net`.
#[must_use]
pub fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

impl Index {
    /// Reads the files' texts; lines that make no sense are passed over.
    #[must_use]
    pub fn read(dep: &str, softdep: &str, alias: &str, builtin: &str) -> Self {
        let mut index = Self::default();
        for (path, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let path = path.trim().to_owned();
            index.paths.insert(name_of(&path), path.clone());
            index
                .needs
                .insert(path, needs.split_whitespace().map(str::to_owned).collect());
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("softdep") {
                continue;
            }
            let Some(name) = words.next() else { continue };
            let mut before = false;
            let list = index.before.entry(name.replace('-', "_")).or_default();
            for word in words {
                match word {
                    "pre:" => before = true,
                    "post:" => before = false,
                    other if before => list.push(other.to_owned()),
                    _ => {}
                }
            }
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(alias), Some(name)) =
                (words.next(), words.next(), words.next())
                && !alias.contains(['*', '?', '['])
            {
                index
                    .aliases
                    .entry(alias.replace('-', "_"))
                    .or_default()
                    .push(name.replace('-', "_"));
            }
        }
        index.builtin = builtin.lines().map(|line| name_of(line.trim())).collect();
        index
    }

    /// The modules of these names with all that they need, each after what it needs.
    #[must_use]
    pub fn select<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Selection {
        let mut selection = Selection::default();
        let mut seen = BTreeSet::new();
        for name in names {
            let name = name.replace('-', "_");
            if let Some(path) = self.paths.get(&name) {
                self.visit(path, &mut seen, &mut selection.paths);
            } else if self.builtin.contains(&name) {
                selection.builtin.push(name);
            } else {
                selection.missing.push(name);
            }
        }
        selection
    }

    /// Depth first, without recursion: a damaged index may be deep or go in circles.
    fn visit(&self, path: &str, seen: &mut BTreeSet<String>, order: &mut Vec<String>) {
        let mut stack = vec![(path.to_owned(), false)];
        while let Some((path, expanded)) = stack.pop() {
            if expanded {
                order.push(path);
                continue;
            }
            if !self.needs.contains_key(&path) || !seen.insert(path.clone()) {
                continue;
            }
            let hard = self.needs.get(&path).into_iter().flatten().cloned();
            let soft = self
                .before
                .get(&name_of(&path))
                .into_iter()
                .flatten()
                .flat_map(|name| self.named(name));
            let first: Vec<String> = hard.chain(soft).collect();
            stack.push((path, true));
            stack.extend(first.into_iter().rev().map(|path| (path, false)));
        }
    }

    /// Paths of what a soft dependency names: a module, or all behind an alias.
    fn named(&self, name: &str) -> Vec<String> {
        let name = name.replace('-', "_");
        let aliased = self.aliases.get(&name).into_iter().flatten();
        std::iter::once(&name)
            .chain(aliased)
            .filter_map(|name| self.paths.get(name).cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEP: &str = "\
kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko kernel/drivers/net/net_failover.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/net/core/failover.ko:
kernel/drivers/virtio/virtio.ko:
kernel/lib/libcrc32c.ko:
kernel/crypto/crc32c_generic.ko:
kernel/drivers/a-b.ko.xz: kernel/drivers/a-b.ko.xz
";

    fn index() -> Index {
        Index::read(
            DEP,
            "softdep libcrc32c pre: crc32c post: x",
            "alias crc32c crc32c_generic\nalias pci:v* virtio",
            "kernel/drivers/nvme/host/nvme.ko",
        )
    }

    #[test]
    fn each_module_comes_after_what_it_needs_and_once() {
        let selection = index().select(["virtio_net", "net_failover"]);
        let names: Vec<_> = selection.paths.iter().map(|path| name_of(path)).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio", "virtio_net"]);
    }

    #[test]
    fn a_soft_dependency_by_alias_comes_first() {
        let names: Vec<_> = index()
            .select(["libcrc32c"])
            .paths
            .iter()
            .map(|path| name_of(path))
            .collect();
        assert_eq!(names, ["crc32c_generic", "libcrc32c"]);
    }

    #[test]
    fn what_is_built_in_or_not_there_is_said() {
        let selection = index().select(["nvme", "i40e", "a_b"]);
        assert_eq!(
            (selection.builtin, selection.missing),
            (vec!["nvme".into()], vec!["i40e".into()])
        );
        assert_eq!(
            selection.paths,
            ["kernel/drivers/a-b.ko.xz"],
            "one that needs itself ends all the same"
        );
    }

    proptest! {
        #[test]
        fn no_index_panics_or_hangs(dep in "([a-c]{1,2}: ?([a-c]{1,2} ?){0,4}\n){0,12}", softdep in "(softdep [a-c] pre: [a-c] [a-c]\n){0,4}", any in ".{0,80}") {
            let index = Index::read(&dep, &softdep, &any, &any);
            let selection = index.select(["a", "b", "c", "aa", "bc"]);
            let unique: BTreeSet<_> = selection.paths.iter().collect();
            prop_assert_eq!(unique.len(), selection.paths.len());
            let _ = Index::read(&any, &any, &any, &any).select(["a"]);
        }
    }
}
