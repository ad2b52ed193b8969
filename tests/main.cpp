// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/run_tests.h"

int main(int argc, char** argv) { return sipward::test::run_tests(argc, argv); }
