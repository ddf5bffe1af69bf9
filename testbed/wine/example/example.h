/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What driver.c and client.c agree upon. */
#pragma once

#define EXAMPLE_PORT L"\\Example"
/* The longest question and the longest answer, in bytes. */
#define EXAMPLE_TEXT 64
