//! What can be typed. Each subcommand's flags stand in its own module.

use clap::Parser;

use crate::{crds, demo, inspect, logs, ramdisk, serve, version};

/// Runs bare-metal servers as Kubernetes objects.
///
/// Every flag can also be set by the environment variable named beside it.
#[derive(Debug, Parser)]
#[command(
    name = "corten",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub logs: logs::Args,
    #[command(subcommand)]
    pub command: Subcommand,
}

/// One variant for each subcommand.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    Serve(Box<serve::Args>),
    Operator(Box<serve::OperatorArgs>),
    Agent(Box<serve::AgentArgs>),
    Demo(demo::Args),
    Sim(Box<corten_sim::Args>),
    Crds(crds::Args),
    Inspect(inspect::Args),
    Ramdisk(ramdisk::Args),
    Version(version::Args),
}

/// Help names each flag's variable but never its value, which may be a secret's path or more.
pub fn documented(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    let command = command.mut_args(|arg| arg.hide_env_values(true));
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, documented)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn all(command: &clap::Command) -> Vec<&clap::Command> {
        let mut found = vec![command];
        for sub in command.get_subcommands() {
            found.extend(all(sub));
        }
        found
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_can_be_set_by_a_variable_and_explains_itself() {
        let root = Cli::command();
        for command in all(&root) {
            assert!(
                command.get_about().is_some(),
                "{} has no help",
                command.get_name()
            );
            for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let flag = format!("{} --{}", command.get_name(), arg.get_id());
                let variable = arg
                    .get_env()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default();
                assert!(
                    variable.starts_with("CORTEN_"),
                    "{flag} cannot be set by CORTEN_…"
                );
                assert!(arg.get_help().is_some(), "{flag} has no help");
            }
        }
    }

    #[test]
    fn no_variable_means_two_things_in_one_command() {
        let root = Cli::command();
        for command in all(&root) {
            let mut variables: Vec<_> = command
                .get_arguments()
                .filter_map(clap::Arg::get_env)
                .collect();
            variables.sort();
            let count = variables.len();
            variables.dedup();
            assert_eq!(variables.len(), count, "{}", command.get_name());
        }
    }
}
