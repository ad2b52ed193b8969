// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/commands.h"

int main(int argc, char** argv) { return sipward::daemon::command_line(argc, argv); }
