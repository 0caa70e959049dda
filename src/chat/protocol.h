#pragma once

#include <string_view>

// The byte-exact strings of the prompt format (prompt.md 1, 2). The bar is U+FF5C, the low block U+2581.
namespace ds4::chat::protocol {

// Strings of added tokens.
inline constexpr std::string_view bos = "<｜begin▁of▁sentence｜>";
inline constexpr std::string_view eos = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view user = "<｜User｜>";
inline constexpr std::string_view assistant = "<｜Assistant｜>";
inline constexpr std::string_view latest_reminder = "<｜latest_reminder｜>";
inline constexpr std::string_view think = "<think>";
inline constexpr std::string_view end_think = "</think>";
inline constexpr std::string_view dsml = "｜DSML｜";  // tags are built around it: "<" dsml "invoke ..."

inline constexpr std::string_view task_action = "<｜action｜>";
inline constexpr std::string_view task_query = "<｜query｜>";
inline constexpr std::string_view task_authority = "<｜authority｜>";
inline constexpr std::string_view task_domain = "<｜domain｜>";
inline constexpr std::string_view task_title = "<｜title｜>";
inline constexpr std::string_view task_read_url = "<｜read_url｜>";

// Ordinary text around what a tool returned.
inline constexpr std::string_view tool_result = "<tool_result>";
inline constexpr std::string_view end_tool_result = "</tool_result>";

// Around the list of tools, one JSON object a line.
inline constexpr std::string_view tools_head =
    "## Tools\n"
    "\n"
    "You have access to a set of tools to help answer the user's question. You can invoke tools "
    "by writing a \"<｜DSML｜tool_calls>\" block like the following:\n"
    "\n"
    "<｜DSML｜tool_calls>\n"
    "<｜DSML｜invoke name=\"$TOOL_NAME\">\n"
    "<｜DSML｜parameter name=\"$PARAMETER_NAME\" "
    "string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "<｜DSML｜invoke name=\"$TOOL_NAME2\">\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "</｜DSML｜tool_calls>\n"
    "\n"
    "String parameters should be specified as is and set `string=\"true\"`. For all other types "
    "(numbers, booleans, arrays, objects), pass the value in JSON format and set "
    "`string=\"false\"`.\n"
    "\n"
    "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning "
    "inside <think>...</think> BEFORE any tool calls or final response.\n"
    "\n"
    "Otherwise, output directly after </think> with tool calls or final response.\n"
    "\n"
    "### Available Tool Schemas\n"
    "\n";
inline constexpr std::string_view tools_tail =
    "\n"
    "\n"
    "You MUST strictly follow the above defined tool name and parameter schemas to invoke tool "
    "calls.\n";

// Before the JSON schema of the answer.
inline constexpr std::string_view response_format_head =
    "## Response Format:\n"
    "\n"
    "You MUST strictly adhere to the following schema to reply:\n";

// Between BOS and the first message. The weights of 31 July 2026 use the text that used to mean "max" for
// "high".
inline constexpr std::string_view effort_exhaustive =
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to "
    "resolve the root cause, rigorously stress-testing your logic against all potential paths, "
    "edge cases, and adversarial scenarios.\n"
    "Explicitly write out your entire deliberation process, documenting every intermediate step, "
    "considered alternative, and rejected hypothesis to ensure absolutely no assumption is left "
    "unchecked.\n"
    "\n";
inline constexpr std::string_view effort_beyond =
    "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n"
    "You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: "
    "exhaustively decompose the problem into its most fundamental components, trace every causal "
    "chain to its root, and resolve the underlying cause rather than any surface symptom.\n"
    "Do not stop reasoning until you have independently verified the solution from multiple "
    "angles and are certain that no assumption remains unchecked and no error remains "
    "undiscovered.\n"
    "\n";

}  // namespace ds4::chat::protocol
