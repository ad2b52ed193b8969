// SPDX-License-Identifier: GPL-2.0-or-later
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include "tests/run_tests.h"

namespace sipward::test {

int run_tests(int argc, char** argv) { return Catch::Session().run(argc, argv); }

} // namespace sipward::test
