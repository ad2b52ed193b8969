// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

namespace sipward::test {

// All test cases of this program; what main() returns. Catch2 itself, which takes long to compile, is compiled once for
// all programs, those too that have something to prepare before and so bring a main() of their own.
int run_tests(int argc, char** argv);

} // namespace sipward::test
