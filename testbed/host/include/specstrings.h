/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The older name of the annotations in sal.h. */
#include "sal.h"
