#pragma once

// Every shared kernel body; the entry files include nothing else.
#include "backend/gpu/kernels/rows.h"
