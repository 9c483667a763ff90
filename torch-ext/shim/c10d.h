// Handles of the distributed part: both are references on the heap.
#pragma once

#include "shim.h"

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <chrono>

using StoreRef = c10::intrusive_ptr<c10d::Store>;
using StorePtr = StoreRef*;

using GroupRef = c10::intrusive_ptr<c10d::Backend>;
using GroupPtr = GroupRef*;

using WorkRef = c10::intrusive_ptr<c10d::Work>;
using WorkPtr = WorkRef*;
