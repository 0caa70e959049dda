# nvcc where its installer puts it, if nobody said otherwise.
if(NOT CMAKE_CUDA_COMPILER)
  find_program(CMAKE_CUDA_COMPILER nvcc HINTS /usr/local/cuda/bin ENV CUDA_PATH PATH_SUFFIXES bin REQUIRED)
endif()
set(CMAKE_CUDA_ARCHITECTURES ${DS4_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
if(DS4_CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${DS4_CCACHE})
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

# Debian 12's CMake does not know that nvcc speaks C++20.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
endif()
# As for the host: fused multiply-adds are written out where they are wanted.
target_compile_options(ds4_flags INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:-fmad=false;-Xcompiler=-ffp-contract=off>")
if(DS4_WERROR)
  target_compile_options(ds4_flags INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>")
endif()
