#pragma once

#include <stdexcept>
#include <string>

namespace ds4 {

// Base of everything ds4 throws on purpose. what() is one line that names the thing (file, key, tensor,
// option), says what is wrong with it and, where there is one, the way out. Programs print it and exit
// with 1.
class Error : public std::runtime_error {
  public:
    explicit Error(const std::string& message) : std::runtime_error(message) {}
};

// The file system said no: missing file, unreadable, disk full, rename refused.
class IoError : public Error {
  public:
    using Error::Error;
};

// A GGUF file breaks the format or lies about its contents (model.md 2).
class GgufError : public Error {
  public:
    using Error::Error;
};

// A safetensors file or its index breaks the format (model.md 14.7).
class SafetensorsError : public Error {
  public:
    using Error::Error;
};

// A well-formed file that is not a usable DeepSeek V4 model: wrong architecture, missing key or tensor,
// hyper-parameters that contradict each other or the shapes (model.md 1, 3).
class ModelError : public Error {
  public:
    using Error::Error;
};

// Vocabulary, merges or regular expressions that cannot make a tokenizer; text or ids it cannot take.
class TokenizerError : public Error {
  public:
    using Error::Error;
};

// A chat request that cannot be rendered as a prompt (prompt.md 2).
class PromptError : public Error {
  public:
    using Error::Error;
};

// A GPU or its driver is missing, too old, or failed in the middle of something.
class DeviceError : public Error {
  public:
    using Error::Error;
};

// A GPU has not enough memory for one more block. What was there before stays usable.
class DeviceMemoryError : public DeviceError {
  public:
    using DeviceError::DeviceError;
};

// A GPU that has failed and that this process cannot open again, however often it tries. A new process can.
class DeviceLostError : public DeviceError {
  public:
    using DeviceError::DeviceError;
};

// The prompt, or the prompt and the answer so far, do not fit the session's context.
class ContextError : public Error {
  public:
    using Error::Error;
};

}  // namespace ds4
