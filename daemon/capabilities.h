// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <expected>
#include <string>

namespace sipward::daemon {

// Left unblocked in every thread, for drop_capabilities().
int capability_signal() noexcept;

// Gives up, in every thread of this process and for good, what was only needed to start: opening packet sockets, say.
// Kept, as far as it is there: CAP_NET_ADMIN (nftables), and CAP_DAC_OVERRIDE, by which root writes into folders that
// are not its own. Linux has capabilities by thread (capabilities(7)), and libraries have started threads already: each
// is interrupted by a signal. Main thread, once. The error names what was not to be had.
std::expected<void, std::string> drop_capabilities();

} // namespace sipward::daemon
