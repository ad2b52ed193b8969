// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <span>

#include "daemon/nft_batch.h"
#include "daemon/nft_sets.h"

// Private to this layer. The chains of our table and their rules, as messages of a batch (nft_batch.h).
namespace sipward::daemon::nft {

// All chains of the layout, with rules for its standing sets and for these. The sets stand earlier in the batch.
void put_chains(Batch& batch, const Layout& layout, std::span<const SubjectSet> on_demand);
// Other rules in the same chains.
void put_rules_anew(Batch& batch, const Layout& layout, std::span<const SubjectSet> on_demand);
// The chain that keeps everything on layout.taken from the kernel, in the table netdev sipward.
void put_taking_chain(Batch& batch, const Layout& layout);

} // namespace sipward::daemon::nft
