// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

// The command line: one subcommand each for the daemon, for the files that it reads, and for the questions it answers.
namespace sipward::daemon {

// What the shell is told.
enum Exit : int { kDone = 0, kRefused = 1, kUsage = 2, kNobodyThere = 3 };

// Runs the program named by the arguments to its end.
int command_line(int argc, char** argv);

} // namespace sipward::daemon
